"""What a code is made to be: sparse, likely under a prior, or insensitive to the input (lecture 21.1)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dlcore.generative.check import in_range
from dlcore.losses import activity_l1
from dlcore.operands import Discrete, known, marks, safe, wide
from dlcore.setting import Number
from dlcore.types import Mean


def kl_sparsity(
    codes: Float[Array, "b n"], target: Number, *, where: Discrete[Array, " b"] | None = None
) -> Float[Array, ""]:
    """Σ_j KL(ρ ‖ ρ̂_j) in nats, ρ̂_j being the **mean over the batch** of unit j (Ng 2011; Nair & Hinton 2009).

    KL(ρ ‖ ρ̂) = ρ log ρ/ρ̂ + (1 − ρ) log (1 − ρ)/(1 − ρ̂): single codes may be large if the unit is seldom on. The mean is
    over the rows that `where` marks; of none the penalty is 0. Means are kept a rounding away from 0 and 1, so that a
    unit that is off for a whole batch has a large penalty and not an infinite one.

    Raises `ValueError` unless 0 < ρ < 1, and outside `jit` for codes outside [0, 1], whose penalty inside is NaN.

    >>> import jax.numpy as jnp
    >>> f"{kl_sparsity(jnp.array([[0.9, 0.1], [0.1, 0.1]]), 0.1):.6f}"
    '0.368064'
    """
    in_range("kl_sparsity", "target", target, lambda rho: 0 < rho < 1, "lie between 0 and 1")
    _check_codes("kl_sparsity", codes)
    where = marks("kl_sparsity", where, jnp.shape(codes), prefix=True)
    codes = safe(wide(codes, "kl_sparsity"), where)
    outside = ((codes < 0) | (codes > 1)).any()
    if known(outside) and outside:
        raise ValueError("kl_sparsity: codes must lie in [0, 1]; use sigmoid units")
    count = len(codes) if where is None else where[:, :1].sum()
    mean = codes.sum(0) / jnp.maximum(count, 1)
    limits = jnp.finfo(mean.dtype)
    mean = jnp.clip(mean, limits.eps, 1 - limits.epsneg)
    rho = jnp.asarray(target, mean.dtype)
    nats = rho * (jnp.log(rho) - jnp.log(mean)) + (1 - rho) * (jnp.log1p(-rho) - jnp.log1p(-mean))
    return jnp.where(outside, jnp.nan, jnp.where(count > 0, nats.sum(), 0.0))


def _check_codes(name: str, codes: Array) -> None:
    if jnp.ndim(codes) != 2:
        raise ValueError(f"{name}: codes must be [b, n], got shape {jnp.shape(codes)}; flatten those of an example")


def sparse(
    *, l1: float = 0.0, kl: float = 0.0, target: float = 0.05
) -> Callable[[Array, Array | None], Float[Array, ""]] | None:
    """`(codes [b, n], where) -> penalty`: `l1` · mean of Σ_j |h_j|, plus `kl` · `kl_sparsity`; None where both are 0.

    For `dlcore.generative.autoencoder.reconstruction`. Raises `ValueError` for a negative weight.
    """
    for name, weight in (("l1", l1), ("kl", kl)):
        in_range("sparse", name, weight, lambda weight: weight >= 0, "not be negative")

    def penalty(codes: Array, where: Array | None) -> Float[Array, ""]:
        total = jnp.float32(0)
        if l1:
            size = Mean.of(activity_l1(codes), where)
            total += l1 * size.total / jnp.maximum(size.count, 1)
        return total + kl * kl_sparsity(codes, target, where=where) if kl else total

    return penalty if l1 or kl else None


def laplace_nll(codes: Float[Array, "b ..."], rate: Number) -> Float[Array, " b"]:
    """−log p(h) in nats under independent Laplace units p(h_j) = λ/2 · exp(−λ|h_j|): λ Σ_j |h_j| − n log λ/2.

    Beside −log p(x|h) it makes the loss of a sparse autoencoder −log p(x, h): the L1 penalty is the prior of a model
    with latent variables (lecture 21.1). Raises `ValueError` unless λ > 0.
    """
    in_range("laplace_nll", "rate", rate, lambda rate: rate > 0, "be positive")
    return rate * activity_l1(codes) - math.prod(codes.shape[1:]) * jnp.log(jnp.asarray(rate) / 2)


def contraction(encode: Callable[[Array], Array], x: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """‖∂h/∂x‖_F² of every example, for any `encode`: x [b, ...] → h [b, ...] (Rifai et al. 2011, eq. 2).

    Exact, from as many Jacobian products as the smaller of an example's n inputs and its k codes, all at once: rows
    of ∂h/∂x where k ≤ n, columns otherwise. Memory is that of min(n, k) batches. The codes of an example must not
    depend on the others, which batch norm in training would make them.

    >>> import jax.numpy as jnp
    >>> contraction(lambda x: 3 * x, jnp.ones((2, 4)))
    Array([36., 36.], dtype=float32)
    """
    h = jax.eval_shape(encode, x)
    inputs, codes = math.prod(x.shape[1:]), math.prod(h.shape[1:])
    if codes <= inputs:
        _, product = jax.vjp(encode, x)
        unit, size = h, codes
    else:
        product = lambda tangent: (jax.jvp(encode, (x,), (tangent,))[1],)  # noqa: E731
        unit, size = x, inputs
    basis = jnp.eye(size, dtype=unit.dtype).reshape(size, 1, *unit.shape[1:])
    (found,) = jax.vmap(product)(jnp.broadcast_to(basis, (size, *unit.shape)))
    return jnp.square(wide(found, "contraction")).sum((0, *range(2, found.ndim)))


class Units(NamedTuple):
    """Sums over examples of what every unit of a code does; add over batches."""

    on: Int[Array, " n"]
    """Examples on which |h_j| is above the threshold."""
    total: Float[Array, " n"]
    """Σ |h_j|."""
    count: Int[Array, ""]


def units(codes: Float[Array, "b n"], where: Discrete[Array, " b"] | None = None, *, threshold: Number = 0.0) -> Units:
    """The sums over the examples that `where` marks.

    Threshold 0 is exact for rectified and k-sparse codes; sigmoid units, which are never quite 0, need a larger one.
    Raises `ValueError` for a negative one.
    """
    in_range("units", "threshold", threshold, lambda least: least >= 0, "not be negative")
    _check_codes("units", codes)
    where = marks("units", where, jnp.shape(codes), prefix=True)
    size = jnp.abs(safe(wide(codes, "units"), where))
    counted = jnp.ones(codes.shape, bool) if where is None else where
    on = ((size > threshold) & counted).sum(0, dtype=jnp.int32)
    return Units(on, size.sum(0), counted[:, :1].sum(dtype=jnp.int32))


def report(sums: Units) -> dict[str, float]:
    """What a code's units do: `dead_units`, on for no example; `active_fraction`, how often a unit is on in the mean;
    `code_activity`, the mean of |h|."""
    count, size = max(int(sums.count), 1), len(sums.on)
    return {
        "dead_units": float((sums.on == 0).sum()),
        "active_fraction": float(sums.on.sum()) / (count * size),
        "code_activity": float(sums.total.sum()) / (count * size),
    }
