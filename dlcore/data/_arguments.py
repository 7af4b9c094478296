"""What the augmentations ask of their arguments, so that all say the same of the same mistake."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

Strength: TypeAlias = Float[ArrayLike, ""] | float | int
"""How much an augmentation changes; may be traced, so that it can be annealed."""

NO_BOUND = math.inf


def one_or_many(augment: Callable[..., Any]) -> Callable[..., Any]:
    """An augmentation `(key, images [b, h, w, c], ...)` that takes one image [h, w, c] as well, also under `vmap`.

    The one that comes out raises `ValueError` for arrays of another rank.
    """

    @functools.wraps(augment)
    def either(key: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        # NumPy arrays cannot be indexed by what is traced.
        images = jnp.asarray(images)
        if images.ndim == 3:
            return augment(key, images[None], *args, **kwargs)[0]
        check_rank(augment.__name__, images, (3, 4))
        return augment(key, images, *args, **kwargs)

    return either


def check_rank(name: str, images: Any, ranks: tuple[int, ...]) -> None:
    """Raise `ValueError` unless images are [b, h, w, c] (rank 4) or [h, w, c] (rank 3), as far as `ranks` allows."""
    if images.ndim not in ranks:
        wanted = " or ".join({3: "[h, w, c]", 4: "[b, h, w, c]"}[rank] for rank in sorted(ranks, reverse=True))
        raise ValueError(f"{name}: images are {images.shape}; want {wanted}")


def check_real(name: str, images: Any) -> None:
    """Raise `ValueError` for integers: what is computed from them would be rounded or clipped."""
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"{name}: images are {images.dtype}; want real numbers: preprocess.scale them first")


def check_fill(name: str, fill: Any, images: Any) -> None:
    """Raise `ValueError` unless the value is a single number that images of this dtype can hold."""
    check_single(name, "fill", fill)
    if isinstance(fill, jax.core.Tracer):
        return
    low, high = _limits(images.dtype)
    real, value = jnp.issubdtype(images.dtype, jnp.floating), float(fill)
    if not (low <= value <= high and (real or value.is_integer())) and not (real and not math.isfinite(value)):
        raise ValueError(f"{name}: fill {fill} does not fit {images.dtype} images; use {low} to {high}")


def _limits(dtype: Any) -> tuple[Any, Any]:
    """The least and the greatest finite value."""
    if dtype == jnp.bool_:
        return 0, 1
    if jnp.issubdtype(dtype, jnp.floating):
        return float(jnp.finfo(dtype).min), float(jnp.finfo(dtype).max)
    return jnp.iinfo(dtype).min, jnp.iinfo(dtype).max


def check_count(name: str, what: str, value: Any) -> None:
    """Raise `ValueError` unless the value is a whole number and not negative."""
    try:
        operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: {what} must be a whole number known before compiling, got {value}") from None
    if isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}: {what} must be a whole number, got {value}")
    check_strength(name, what, value)


def check_strength(name: str, what: str, value: Any, high: float = NO_BOUND) -> None:
    """Raise `ValueError` unless 0 ≤ value ≤ `high` (and below infinity); inside `jit` a traced value passes."""
    check_single(name, what, value)
    if isinstance(value, jax.core.Tracer):
        return
    if high == NO_BOUND and not 0 <= value < high:
        problem = "must not be negative" if value < 0 else "must be finite"
        raise ValueError(f"{name}: {what} {problem}, got {value}")
    if not 0 <= value <= high:
        raise ValueError(f"{name}: {what} must lie in [0, {high:g}], got {value}")


def check_single(name: str, what: str, value: Any) -> None:
    """Raise `ValueError` for an array of several numbers, which would be broadcast."""
    if np.shape(value):
        raise ValueError(f"{name}: {what} must be a single number, got shape {np.shape(value)}; use vmap for several")
