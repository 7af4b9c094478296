"""What batch norm adds up over all rows, in one pass over memory (lecture 15).

On a GPU a sum takes as long as its terms are read. Mean and variance are added up together, and so are the two sums
that the gradients of a scale and a bias are; XLA would read the terms once for each, and write down what both read.
"""

import functools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Real

from dlcore.backend import on_gpu, on_one_device
from dlcore.operands import wide


def in_one_pass() -> bool:
    """Whether one pass is the faster way: on a GPU. Of a sharded batch the sums are XLA's."""
    return on_gpu() and on_one_device()


@jax.custom_jvp
def moments_in_one_pass(x: Real[Array, "*rows c"]) -> tuple[Float[Array, " c"], Float[Array, " c"]]:
    """Mean and biased variance of every channel, in float32 at least.

    Both come from the sums of x − o and of its square, o being the mean of the first example: were it zero, a mean far
    from zero would cost the variance its digits.
    """
    x = wide(x)
    count, axes = math.prod(x.shape[:-1]), _rows(x)
    origin = x[:1].mean(axes)
    centred = x - origin
    sums, squares = _both_sums(centred, jnp.square(centred))
    away = sums / count
    return origin + away, jnp.maximum(squares / count - jnp.square(away), 0)


@moments_in_one_pass.defjvp
def _moments_jvp(primals: tuple, tangents: tuple) -> tuple[Any, Any]:
    # Written plainly, so that its transposition is a broadcast. The variance is least at the mean: see `_mean_square`.
    (x,), (dx,) = primals, map(wide, tangents)
    mean, variance = moments_in_one_pass(x)
    return (mean, variance), (dx.mean(_rows(x)), (2 * (wide(x) - mean) * dx).mean(_rows(x)))


def affine(
    x: Float[Array, "*rows c"], factor: Float[Array, " c"], shift: Float[Array, " c"]
) -> Float[Array, "*rows c"]:
    """x · factor + shift, in float32 at least; the gradients of factor and shift are one pass."""
    return affine_p.bind(x, wide(factor), wide(shift))


def _rows(x: Array) -> tuple[int, ...]:
    return tuple(range(x.ndim - 1))


def _affine(x: Array, factor: Array, shift: Array) -> Array:
    return wide(x) * factor + shift


def _sums(x: Array, dy: Array) -> list[Array]:
    """The adjoint of `_affine` in factor and shift: Σ dy · x and Σ dy."""
    return list(_both_sums(dy * wide(x), dy))


def _plain_sums(x: Array, dy: Array) -> list[Array]:
    """`_sums` that JAX can transform."""
    return [(dy * wide(x)).sum(_rows(x)), dy.sum(_rows(x))]


def _both_sums(a: Array, b: Array) -> tuple[Array, Array]:
    zero = jnp.zeros((), a.dtype)
    return jax.lax.reduce((a, b), (zero, zero), lambda p, q: (p[0] + q[0], p[1] + q[1]), _rows(a))


def _affine_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (x, factor, _), (dx, *dv) = primals, tangents
    along = [] if isinstance(dx, ad.Zero) else [wide(dx) * factor]
    if not all(isinstance(t, ad.Zero) for t in dv):
        along.append(affine_p.bind(x, *map(ad.instantiate_zeros, dv)))
    return affine_p.bind(*primals), functools.reduce(operator.add, along)


def _affine_transpose(dy: Any, x: Array, *v: Any) -> list[Array | None]:
    """Linear in factor and shift, as `_affine_jvp` calls it."""
    if isinstance(dy, ad.Zero):
        return [None, None, None]
    return [None, *(s if ad.is_undefined_primal(u) else None for u, s in zip(v, sums_p.bind(x, dy), strict=True))]


def _sums_jvp(primals: tuple, tangents: tuple) -> tuple[list[Array], list[Array]]:
    (x, dy), (dx, ddy) = primals, tangents
    along = sums_p.bind(x, ad.instantiate_zeros(ddy))
    if not isinstance(dx, ad.Zero):
        along[0] += (dy * wide(dx)).sum(_rows(x))
    return sums_p.bind(*primals), along


def _sums_transpose(cotangents: list[Any], x: Array, dy: Any) -> list[Array | None]:
    return [None, affine_p.bind(x, *map(ad.instantiate_zeros, cotangents))]


affine_p = Primitive("affine")
affine_p.def_impl(jax.jit(affine_p.bind))
affine_p.def_abstract_eval(lambda x, factor, shift: x.update(dtype=factor.dtype, weak_type=False))
mlir.register_lowering(affine_p, mlir.lower_fun(_affine, multiple_results=False))
batching.primitive_batchers[affine_p] = lambda args, dims: (jax.vmap(_affine, dims)(*args), 0)
ad.primitive_jvps[affine_p] = _affine_jvp
ad.primitive_transposes[affine_p] = _affine_transpose

sums_p = Primitive("affine_sums")
sums_p.multiple_results = True
sums_p.def_impl(jax.jit(sums_p.bind))
sums_p.def_abstract_eval(lambda x, dy: [dy.update(shape=dy.shape[-1:], weak_type=False)] * 2)
mlir.register_lowering(sums_p, mlir.lower_fun(_sums, multiple_results=True))
batching.primitive_batchers[sums_p] = lambda args, dims: (jax.vmap(_plain_sums, dims)(*args), [0, 0])
ad.primitive_jvps[sums_p] = _sums_jvp
ad.primitive_transposes[sums_p] = _sums_transpose
