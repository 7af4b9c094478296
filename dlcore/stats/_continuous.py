"""Densities: normal, diagonal and full, Laplace, logistic and Beta (lecture 2.13–2.15, 3.6).

Scales are given by their logarithms, so that every real parameter is valid and nothing overflows (`clamp_log_scale`).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from dlcore.operands import magnitude
from dlcore.precision import matmul
from dlcore.stats._beta import beta as beta
from dlcore.stats._check import check_same_batch
from dlcore.stats._distribution import Distribution, batch_shape, check_outcome, clamp_log_scale, independent
from dlcore.stats._divergence import kl_normal
from dlcore.stats._special import HALF_LOG_TWO_PI, expm2, wide
from dlcore.types import Key, Params

FULL_LIMIT = 20.0
"""Limit of the full normal's log-scales: its gradients hold products of more of them."""


def _standard(params: Params, x: ArrayLike) -> tuple[Array, Array]:
    """z = (x − mean)/s and log s."""
    log_scale = clamp_log_scale(params["log_scale"])
    return (wide(x) - wide(params["mean"])) * jnp.exp(-log_scale), log_scale


def _sampler(noise):
    """Draws mean + s ε."""

    def sample(key: Key, params: Params, shape: tuple[int, ...] = ()) -> Array:
        mean, scale = wide(params["mean"]), jnp.exp(clamp_log_scale(params["log_scale"]))
        return mean + scale * noise(key, (*shape, *batch_shape(params)), jnp.result_type(mean, scale))

    return sample


def _location_scale(standard_log_prob, noise, standard_entropy: float, kl) -> Distribution:
    """The family of mean + s ε from the log-density, a sampler and the entropy of ε."""

    def log_prob(params: Params, x: ArrayLike) -> Array:
        check_outcome(params, x)
        z, log_scale = _standard(params, x)
        return standard_log_prob(z) - log_scale

    def entropy(params: Params) -> Array:
        log_scale = clamp_log_scale(params["log_scale"])
        return jnp.broadcast_to(standard_entropy + log_scale, batch_shape(params))

    return Distribution(log_prob, _sampler(noise), entropy, kl)


def _laplace_kl(params: Params, others: Params) -> Array:
    """log b₂/b₁ + (b₁ e^{−d/b₁} + d)/b₂ − 1 with d = |μ₁ − μ₂|, as a sum of two terms that are never negative."""
    check_same_batch("kl", {"params": batch_shape(params), "others": batch_shape(others)})
    log_b, other_log_b = (clamp_log_scale(p["log_scale"]) for p in (params, others))
    ratio = log_b - other_log_b
    distance = magnitude(wide(params["mean"]) - wide(others["mean"])) * jnp.exp(-log_b)
    return expm2(ratio) + jnp.exp(ratio) * expm2(-distance)


def _normal_kl(params: Params, others: Params) -> Array:
    check_same_batch("kl", {"params": batch_shape(params), "others": batch_shape(others)})
    named = (part for p in (params, others) for part in (wide(p["mean"]), clamp_log_scale(p["log_scale"])))
    return kl_normal(*jnp.broadcast_arrays(*named))


normal = _location_scale(
    lambda z: -0.5 * jnp.square(z) - HALF_LOG_TWO_PI,
    jax.random.normal,
    0.5 + HALF_LOG_TWO_PI,
    _normal_kl,
)
"""N(μ, σ²): `mean` μ, `log_scale` log σ."""

diagonal_normal = independent(normal)
"""N(μ, diag σ²) of vectors: `mean` and `log_scale` [..., d]."""

laplace = _location_scale(lambda z: -magnitude(z) - math.log(2), jax.random.laplace, 1 + math.log(2), _laplace_kl)
"""Density e^{−|x − μ|/b}/(2b): `mean` μ, also the median, `log_scale` log b."""

logistic = _location_scale(lambda z: -jnp.abs(z) - 2 * jnp.log1p(jnp.exp(-jnp.abs(z))), jax.random.logistic, 2.0, None)
"""Distribution function σ((x − μ)/s): `mean` μ, `log_scale` log s. Its divergence has no closed form."""


def _parts(params: Params) -> tuple[Array, Array]:
    """μ [d] and `log_cholesky` [d, d], looked at."""
    mean, raw = wide(params["mean"]), wide(params["log_cholesky"])
    if mean.ndim != 1 or raw.shape != (mean.size, mean.size):
        raise ValueError(f"full_normal: mean [d] and log_cholesky [d, d] have shapes {mean.shape} and {raw.shape}")
    return mean, raw


def _log_diagonal(params: Params) -> Array:
    return clamp_log_scale(jnp.diagonal(_parts(params)[1]), FULL_LIMIT)


def _factor(params: Params) -> Array:
    """L, lower triangular with a positive diagonal; Σ = L Lᵀ."""
    return jnp.tril(_parts(params)[1], -1) + jnp.diag(jnp.exp(_log_diagonal(params)))


def _solve(params: Params, rows: Array) -> Array:
    """L⁻¹ v for every row v."""
    return jax.scipy.linalg.solve_triangular(_factor(params), rows.reshape(-1, rows.shape[-1]).T, lower=True).T


def _full_log_prob(params: Params, x: ArrayLike) -> Array:
    mean, x = _parts(params)[0], wide(x)
    if x.shape[-1:] != mean.shape:
        raise ValueError(f"full_normal: x of shape {x.shape} holds no vectors of {mean.size} elements, the mean's")
    squares = jnp.square(_solve(params, x - mean)).sum(-1).reshape(x.shape[:-1])
    return -0.5 * squares - _log_diagonal(params).sum() - mean.size * HALF_LOG_TWO_PI


def _full_sample(key: Key, params: Params, shape: tuple[int, ...] = ()) -> Array:
    mean, _ = _parts(params)
    return mean + matmul(jax.random.normal(key, (*shape, *mean.shape), mean.dtype), _factor(params).T)


def _full_kl(params: Params, others: Params) -> Array:
    """½(‖M‖² + ‖L₂⁻¹(μ₂ − μ₁)‖² − d) + ½ log |Σ₂|/|Σ₁| with M = L₂⁻¹L₁, as a sum of squares and eˣ − 1 − x ≥ 0."""
    (mean, _), (other_mean, _) = _parts(params), _parts(others)
    if mean.shape != other_mean.shape:
        raise ValueError(f"kl: means of shapes {mean.shape} and {other_mean.shape}")
    below = jnp.square(jnp.triu(_solve(others, _factor(params).T), 1)).sum()
    distance = jnp.square(_solve(others, (mean - other_mean)[None])).sum()
    return 0.5 * (expm2(2 * (_log_diagonal(params) - _log_diagonal(others))).sum() + below + distance)


def _full_entropy(params: Params) -> Array:
    return len(params["mean"]) * (0.5 + HALF_LOG_TWO_PI) + _log_diagonal(params).sum()


full_normal = Distribution(_full_log_prob, _full_sample, _full_entropy, _full_kl)
"""N(μ, Σ): `mean` [d], `log_cholesky` [d, d]: below its diagonal Σ's Cholesky factor, on it the logarithm of that
factor's, clamped to ± `FULL_LIMIT`; what stands above does not count (Pinheiro & Bates 1996). One distribution; vmap
for a batch of them. A factor so ill-conditioned that the square of its inverse overflows is beyond it."""


def full_normal_params(mean: Float[Array, " d"], covariance: Float[Array, "n n"]) -> Params:
    """Parameters of `full_normal` from μ and Σ.

    Raises `ValueError` for a Σ of another size, not symmetric, or not positive definite. Needs concrete values.
    """
    S = np.asarray(covariance, np.float64)
    if np.ndim(mean) != 1 or S.shape != 2 * np.shape(mean):
        raise ValueError(f"full_normal_params: mean [d] and covariance [d, d] have shapes {np.shape(mean)}, {S.shape}")
    eps = float(jnp.finfo(covariance.dtype).eps)
    if not np.allclose(S, S.T, rtol=0, atol=8 * eps * np.abs(S).max()):
        raise ValueError("full_normal_params: covariance must be finite and symmetric")
    eigenvalues = np.linalg.eigvalsh(S)
    if not eigenvalues[0] > len(S) * eps * eigenvalues[-1]:
        raise ValueError(
            "full_normal_params: covariance is singular or not positive definite, eigenvalues from "
            f"{eigenvalues[0]:g} to {eigenvalues[-1]:g}; add a small multiple of the identity"
        )
    L = np.linalg.cholesky(S)
    raw = np.tril(L, -1) + np.diag(np.log(np.diagonal(L)))
    return {"mean": mean, "log_cholesky": jnp.asarray(raw, covariance.dtype)}
