"""Given params and state against those that a module takes: by path, shape and dtype."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dlcore.nn import sources
from dlcore.tree import fitted, named_leaves


def is_array(x: Any) -> bool:
    """Whether it has a shape and a dtype: an array, a tracer, or a `jax.ShapeDtypeStruct`."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def abstract(function: Callable[..., Any], *args: Any) -> Any:
    """Shapes of `function(*args)`; what is no array, such as a flag or None, is passed as it is."""
    return jax.eval_shape(*_of_arrays(function, args))


def overwritten(function: Callable[..., Any], old: Any, *args: Any) -> set[str]:
    """Paths of `old` where `function(old, *args)`, (outputs, a tree like `old`), writes without having read."""

    def both(old: Any, *args: Any) -> tuple[Any, Any]:
        out, new = function(old, *args)
        return fitted(old, new), out

    paths = [path for path, _ in named_leaves(old)]
    run, shapes = _of_arrays(both, (old, *args))
    found = sources(jax.make_jaxpr(run)(shapes), len(paths))
    read = set().union(*found[len(paths) :])
    return {path for i, path in enumerate(paths) if i not in found[i] | read}


def _of_arrays(function: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Callable[..., Any], dict[int, Any]]:
    """`function` of those leaves of its arguments that are arrays, and their shapes, by number."""
    leaves, form = jax.tree.flatten(args)
    shapes = {i: jax.ShapeDtypeStruct(x.shape, x.dtype) for i, x in enumerate(leaves) if is_array(x)}
    filled = lambda arrays: form.unflatten([arrays.get(i, x) for i, x in enumerate(leaves)])  # noqa: E731
    return (lambda arrays: function(*filled(arrays))), shapes


def signature(*args: Any) -> Any:
    """What `abstract` depends on, hashable: structure, shapes, dtypes, and the values that are no arrays."""
    leaves, form = jax.tree.flatten(args)
    return form, tuple((tuple(x.shape), str(x.dtype)) if is_array(x) else (type(x), x) for x in leaves)


def check_names(name: str, given: Any, *, missing: Any = (), known: Any = None) -> None:
    """Raise `ValueError` with the first path that `missing` has and `given` lacks, or that none in `known` has."""
    paths = dict(named_leaves(given))
    expected = [path for path, _ in named_leaves(missing)]
    for path in sorted({*paths, *expected}):
        if path not in paths:
            raise ValueError(f"{name}: {path!r} is missing; it has {_some(paths)}")
    allowed = paths if known is None else {path for path, _ in named_leaves(known)}
    for path in sorted(paths):
        if path not in allowed:
            raise ValueError(f"{name}: {path!r} is unexpected; the module takes {_some(allowed)}")


def check_leaves(name: str, given: Any, expected: Any, precision: Any = None) -> None:
    """Raise `ValueError` with the first path, of those in both, whose shape or dtype differs.

    Floating leaves may also be of the dtype `precision`.
    """
    shapes = dict(named_leaves(expected))
    for path, leaf in sorted(named_leaves(given), key=lambda item: item[0]):
        other = shapes.get(path, leaf)
        if jnp.shape(leaf) != jnp.shape(other):
            raise ValueError(f"{name}: {path!r} has shape {jnp.shape(leaf)}, the module takes {jnp.shape(other)}")
        dtype, wanted = jnp.result_type(leaf), jnp.result_type(other)
        if dtype != wanted and not (dtype == precision and jnp.issubdtype(wanted, jnp.floating)):
            raise ValueError(f"{name}: {path!r} is {dtype}, the module takes {wanted}; convert it with astype")


def lacks(tree: Any, other: Any) -> set[str]:
    """Paths of `other` that `tree` does not have."""
    return {path for path, _ in named_leaves(other)} - {path for path, _ in named_leaves(tree)}


def precision(*trees: Any) -> Any:
    """The floating dtype that all floating leaves have, as in mixed precision; None if they differ."""
    dtypes = {x.dtype for x in jax.tree.leaves(trees) if is_array(x)}
    floating = {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)}
    return floating.pop() if len(floating) == 1 else None


def zeros(shapes: Any) -> Any:
    """Zeros of these shapes."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def united(tree: Mapping[Any, Any], more: Mapping[Any, Any]) -> dict[Any, Any]:
    """Two nested dicts as one; where both have a leaf, that of the first."""
    both = {name: tree[name] if name in tree else more[name] for name in (*tree, *(n for n in more if n not in tree))}
    return {
        name: united(branch, more[name])
        if isinstance(branch, Mapping) and isinstance(more.get(name), Mapping)
        else branch
        for name, branch in both.items()
    }


def _some(paths: Any) -> str:
    first = sorted(paths)[:5]
    return ", ".join(first) + (", ..." if len(paths) > 5 else "") if first else "nothing"
