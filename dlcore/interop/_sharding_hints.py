"""What Flax modules say about the sharding of their params, as rules for dlcore's training states."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from dlcore.interop._linen import Modules, linen_call
from dlcore.interop._nnx_mode import unplaced
from dlcore.tree import named_leaves

Rule = Callable[[str, tuple[int, ...], Mesh], PartitionSpec]


def sharding_rules(
    module: Modules | Callable[[nnx.Rngs], nnx.Module],
    *inputs: Any,
    axes: Mapping[str, str | None] | None = None,
    **options: Any,
) -> Rule:
    """The hints of `nn.with_partitioning` (or `nnx.with_partitioning`) as a rule of `dlcore.parallel.sharding`.

    The rule holds for every leaf of a training state whose path ends with that of a param or a variable of the state:
    also for optimiser states and averages. `axes` translates the names that the module uses to axes of the mesh, such
    as `{"mlp": "data"}`; names that are none, or come again in one leaf, are left out; leaves without a hint are on
    every device.

    A Linen module is given with its inputs (arrays or shapes) and, as in `from_linen`, its `options`; an NNX module as
    the function that makes it, without inputs. Raises `ValueError` for a name in `axes` that the module does not use.
    """
    hints = _nnx_hints(module) if _makes_nnx(module, inputs) else _linen_hints(module, inputs, options)
    used = {name for hint in hints.values() for entry in hint for name in _names(entry)}
    if unknown := sorted(set(axes or ()) - used):
        raise ValueError(f"sharding_rules: the module names the axes {sorted(used)}, not {unknown[0]!r}")

    def rule(path: str, shape: tuple[int, ...], mesh: Mesh) -> PartitionSpec:
        parts = path.split("/")
        found = (hints.get("/".join(parts[i:])) for i in range(len(parts)))
        hint = next((hint for hint in found if hint is not None), ())
        if len(hint) > len(shape):
            return PartitionSpec()
        return _translated(hint, axes or {}, mesh)

    return rule


def _translated(hint: Any, axes: Mapping[str, str | None], mesh: Mesh) -> PartitionSpec:
    """A hint in the mesh's names, each at its first dimension: a mesh axis splits one only."""
    free, entries = set(mesh.axis_names), list[Any]()
    for entry in hint:
        names = tuple(dict.fromkeys(name for name in (axes.get(n, n) for n in _names(entry)) if name in free))
        free -= set(names)
        entries.append((names if len(names) > 1 else names[0]) if names else None)
    return PartitionSpec(*entries)


def _names(entry: Any) -> tuple[str, ...]:
    return () if entry is None else entry if isinstance(entry, tuple) else (entry,)


def _makes_nnx(module: Any, inputs: tuple[Any, ...]) -> bool:
    return callable(module) and not isinstance(module, nn.Module) and not inputs


def _linen_hints(module: Modules, inputs: tuple[Any, ...], options: Mapping[str, Any]) -> dict[str, PartitionSpec]:
    call = linen_call(module, **options)
    given = call.bind(inputs, {})
    key = jax.random.key(0)
    boxed = jax.eval_shape(lambda: call.boxed(key, False, given))
    return _hints(branch for branch in nn.get_partition_spec(boxed).values())


def _nnx_hints(make: Callable[[nnx.Rngs], nnx.Module]) -> dict[str, PartitionSpec]:
    variables = nnx.state(nnx.eval_shape(lambda: unplaced(make)(nnx.Rngs(0))))
    return _hints([nnx.get_partition_spec(variables)])


def _hints(trees: Any) -> dict[str, PartitionSpec]:
    return {path: spec for tree in trees for path, spec in named_leaves(tree) if isinstance(spec, PartitionSpec)}
