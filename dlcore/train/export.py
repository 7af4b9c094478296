"""A trained model in one file: params and state of a run's last fit as `.safetensors`, with what opens it as metadata.

Tensors are named by their path, `params/dense_0/kernel` and `state/…`; any reader of the format sees them as arrays.
Beside it stand its programs as portable StableHLO, for any number of rows.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from safetensors.flax import save_file

from dlcore import tensor_files
from dlcore.parallel.mesh import make_mesh, to_host
from dlcore.train._fitting import like_of, restore
from dlcore.train._run_folder import read_json
from dlcore.train._state import view_of
from dlcore.train._system import main_fit
from dlcore.train.progress import attempt
from dlcore.train.run import Run, of_config
from dlcore.tree import named_leaves, path_of
from dlcore.types import Params, State, View

SUFFIX = ".safetensors"
PLATFORMS = ("cpu", "cuda", "tpu")
"""Where an exported program runs."""


class Exported(NamedTuple):
    """What a file holds of a run."""

    step: int
    metrics: Mapping[str, Any]
    """Of its summary; empty if it was not finished."""
    view: View


def write(run: Run, path: Path) -> list[Path]:
    """Write the params and state that evaluation uses, and beside them `NAME.FUNCTION.stablehlo` of every program.

    Returns the files; a program that cannot be written is noted, and left out. Raises `ValueError` for another suffix
    than `.safetensors`.
    """
    view, written = write_weights(run, path), [path]
    for name in names(run):
        made = attempt(f"the program {name}", lambda name=name: program(run, view, name), {})
        if made is not None:
            written.append(path.with_suffix(f".{name}.stablehlo"))
            written[-1].write_bytes(made.mlir_module_serialized)
    return written


def write_weights(run: Run, path: Path) -> View:
    """Write what evaluation uses, whole or not at all; raises as `write` does."""
    if path.suffix != SUFFIX:
        raise ValueError(f"an export ends in {SUFFIX}, got {path}; name it {path.with_suffix(SUFFIX).name}")
    (name, stage), mesh = main_fit(run.system), make_mesh()
    state = to_host(mesh, restore(run, name, stage, mesh))
    view = view_of(stage.update, jax.device_put(state))
    summary = run.folder / "summary.json"
    told = {
        "config": read_json(run.folder / "config.json"),
        "rows": read_json(run.folder / name / "rows.json"),
        "step": int(state.step),
        "metrics": read_json(summary)["metrics"] if summary.exists() else {},
    }
    tensors = {path: _numbers(leaf) for path, leaf in named_leaves({"params": view.params, "state": view.state})}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}")
    save_file(tensors, temporary, {name: json.dumps(value) for name, value in told.items()})
    temporary.replace(path)
    return view


def read(path: Path) -> tuple[Run, Exported]:
    """The run that a file was exported from, without its data, and what the file holds of it.

    Raises `ValueError`, naming the file, for one that is missing, damaged, or not made by `write`.
    """
    try:
        told = {name: json.loads(value) for name, value in tensor_files.metadata(path).items() if name in TOLD}
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} cannot be read ({error}); export the run again") from None
    if missing := [name for name in TOLD if name not in told]:
        raise ValueError(f"{path} holds tensors, but no run: it lacks {missing[0]!r}; write it with launch.export")
    tensors = {name: jnp.asarray(x) for name, x in tensor_files.load(path).items()}
    run = of_config(path, told["config"])
    (name, stage) = main_fit(run.system)
    like = like_of(run, name, stage, told["rows"], make_mesh())
    view = _filled(path, jax.eval_shape(lambda state: view_of(stage.update, state), like), tensors)
    return run, Exported(told["step"], told["metrics"], view)


def is_foreign(path: Path) -> bool:
    """Whether a file of tensors is there that holds no run of dlcore's, such as weights of another library."""
    if path.suffix != SUFFIX or not path.is_file():
        return False
    return not set(TOLD) <= set(tensor_files.metadata(path))


TOLD = ("config", "rows", "step", "metrics")


def names(run: Run) -> list[str]:
    """The programs of a system: its functions, and `sample` of a generative model."""
    return [*run.system.functions, *(["sample"] if main_fit(run.system)[1].sample is not None else [])]


def program(run: Run, view: View, name: str = "predict") -> jax.export.Exported | None:
    """The function `name` of a system as a program of (params, state, x [n, ...]) for any n; None where it has none.

    "predict" takes what the model is given, which is images standardised as in training for most systems, other
    functions images as they are stored, uint8; "sample" takes keys uint32 [n, 2], one for each sample. It runs on CPU,
    GPU and TPU; `mlir_module_serialized` is its portable StableHLO.
    """
    if name not in names(run):
        return None
    fit, spec = main_fit(run.system)[1], run.spec
    if name == "sample":
        one = lambda params, state, keys: fit.sample(params, state, jax.random.wrap_key_data(keys[0]), 1)  # noqa: E731
        return exported(one, view, jax.ShapeDtypeStruct((2,), jnp.uint32))
    stored = ("point", jnp.float32) if len(spec.shape) == 1 else ("image", jnp.uint8)
    rows = {stored[0]: jax.ShapeDtypeStruct((1, *spec.shape), stored[1]), "row": jax.ShapeDtypeStruct((1,), jnp.int32)}
    # Some preprocess more than the input.
    rows |= {"label": jax.ShapeDtypeStruct((1,), jnp.int32)} if spec.classes else {}
    rows |= {"mask": jax.ShapeDtypeStruct((1, *spec.shape[:2]), jnp.uint8)} if spec.mask_classes else {}
    given = lambda rows: fit.preprocess(rows, key=None, train=False)["image"]  # noqa: E731
    like = jax.eval_shape(given, rows) if name == "predict" else rows[stored[0]]
    return exported(run.system.functions[name], view, jax.ShapeDtypeStruct(like.shape[1:], like.dtype))


def exported(function: Callable[..., Any], view: View, row: jax.ShapeDtypeStruct) -> jax.export.Exported:
    """`function(params, state, x)` as a program for x [n, *row.shape] of any n, on every platform."""
    shape = jax.export.symbolic_shape(", ".join(["n", *map(str, row.shape)]))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (view.params, view.state))

    def each(params: Params, state: State, x: jax.Array) -> Any:
        # One row at a time: then all sizes but that of the batch are numbers while it is traced.
        alone = lambda row: jax.tree.map(lambda y: y[0], function(params, state, row[None]))  # noqa: E731
        return jax.vmap(alone)(x)

    return jax.export.export(jax.jit(each), platforms=PLATFORMS)(*like, jax.ShapeDtypeStruct(shape, row.dtype))


def _filled(path: Path, like: View, tensors: Mapping[str, jax.Array]) -> View:
    def leaf(steps: Any, expected: jax.ShapeDtypeStruct) -> jax.Array:
        name = path_of(steps)
        found = tensors.get(name)
        wanted = jax.eval_shape(_numbers, expected)
        if found is None or (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            there = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
            raise ValueError(
                f"{path}: {name} should be {wanted.dtype}{list(wanted.shape)}, and there is {there}; "
                "it was exported by another version: export the run again"
            )
        return jax.random.wrap_key_data(found) if _is_key(expected) else found

    filled = jax.tree_util.tree_map_with_path(leaf, {"params": like.params, "state": like.state})
    return View(filled["params"], filled["state"], {})


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _numbers(leaf: Any) -> jax.Array:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf
