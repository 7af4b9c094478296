"""Given params and state against those that a module takes: by path, shape and dtype."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dlcore.tree import named_leaves, path_of


def is_array(x: Any) -> bool:
    """Whether it has a shape and a dtype: an array, a tracer, or a `jax.ShapeDtypeStruct`."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def abstract(function: Callable[..., Any], *args: Any) -> Any:
    """Shapes of `function(*args)`; what is no array, such as a flag or None, is passed as it is."""
    leaves, form = jax.tree.flatten(args)
    shapes = {i: jax.ShapeDtypeStruct(x.shape, x.dtype) for i, x in enumerate(leaves) if is_array(x)}
    filled = lambda arrays: form.unflatten([arrays.get(i, x) for i, x in enumerate(leaves)])  # noqa: E731
    return jax.eval_shape(lambda arrays: function(*filled(arrays)), shapes)


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


def fitted(given: Any, new: Any) -> Any:
    """`given` with the values that `new` has at its paths: the structure never changes."""
    values = dict(named_leaves(new))
    return jax.tree_util.tree_map_with_path(lambda path, old: values.get(path_of(path), old), given)


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
