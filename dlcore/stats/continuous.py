"""Densities: normal, diagonal and full, Laplace, logistic and Beta (lecture 2.13–2.15, 3.6).

Scales are given by their logarithms, so that every real parameter is valid and nothing overflows (`clamp_log_scale`).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betaln, digamma
from jaxtyping import Array, Float

from dlcore.precision import matmul
from dlcore.stats.distribution import Distribution, batch_shape, clamp_log_scale, independent
from dlcore.stats.divergence import kl_normal
from dlcore.types import Key, Params

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)
FULL_LIMIT = 20.0
"""Limit of the full normal's log-scales: its gradients hold products of more of them."""


def _standard(params: Params, x: Array) -> tuple[Array, Array]:
    """z = (x − mean)/s and log s."""
    log_scale = clamp_log_scale(params["log_scale"])
    return (x - params["mean"]) * jnp.exp(-log_scale), log_scale


def _sampler(noise):
    """Draws mean + s ε."""

    def sample(key: Key, params: Params, shape: tuple[int, ...] = ()) -> Array:
        dtype = jnp.result_type(float, params["mean"], params["log_scale"])
        draws = noise(key, (*shape, *batch_shape(params)), dtype)
        return params["mean"] + jnp.exp(clamp_log_scale(params["log_scale"])) * draws

    return sample


def _location_scale(standard_log_prob, noise, standard_entropy: float, kl) -> Distribution:
    """The family of mean + s ε from the log-density, a sampler and the entropy of ε."""

    def log_prob(params: Params, x: Array) -> Array:
        z, log_scale = _standard(params, x)
        return standard_log_prob(z) - log_scale

    def entropy(params: Params) -> Array:
        log_scale = clamp_log_scale(params["log_scale"])
        return jnp.broadcast_to(standard_entropy + log_scale, batch_shape(params))

    return Distribution(log_prob, _sampler(noise), entropy, kl)


def _laplace_kl(params: Params, others: Params) -> Array:
    """log b₂/b₁ + (b₁ e^{−d/b₁} + d)/b₂ − 1 with d = |μ₁ − μ₂|, as a sum of two terms that are never negative."""
    log_b, other_log_b = (clamp_log_scale(p["log_scale"]) for p in (params, others))
    ratio = log_b - other_log_b
    distance = jnp.abs(params["mean"] - others["mean"]) * jnp.exp(-log_b)
    return jnp.expm1(ratio) - ratio + jnp.exp(ratio) * (jnp.expm1(-distance) + distance)


normal = _location_scale(
    lambda z: -0.5 * jnp.square(z) - HALF_LOG_TWO_PI,
    jax.random.normal,
    0.5 + HALF_LOG_TWO_PI,
    lambda p, q: kl_normal(p["mean"], clamp_log_scale(p["log_scale"]), q["mean"], clamp_log_scale(q["log_scale"])),
)
"""N(μ, σ²): `mean` μ, `log_scale` log σ."""

diagonal_normal = independent(normal)
"""N(μ, diag σ²) of vectors: `mean` and `log_scale` [..., d]."""

laplace = _location_scale(lambda z: -jnp.abs(z) - math.log(2), jax.random.laplace, 1 + math.log(2), _laplace_kl)
"""Density e^{−|x − μ|/b}/(2b): `mean` μ, also the median, `log_scale` log b."""

logistic = _location_scale(lambda z: -jnp.abs(z) - 2 * jnp.log1p(jnp.exp(-jnp.abs(z))), jax.random.logistic, 2.0, None)
"""Distribution function σ((x − μ)/s): `mean` μ, `log_scale` log s. Its divergence has no closed form."""


def _factor(params: Params) -> Array:
    """L, lower triangular with a positive diagonal; Σ = L Lᵀ."""
    raw = params["log_cholesky"]
    return jnp.tril(raw, -1) + jnp.diag(jnp.exp(clamp_log_scale(jnp.diagonal(raw), FULL_LIMIT)))


def _log_determinant(params: Params) -> Array:
    """½ log |Σ|."""
    return clamp_log_scale(jnp.diagonal(params["log_cholesky"]), FULL_LIMIT).sum()


def _solve(params: Params, rows: Array) -> Array:
    """L⁻¹ v for every row v."""
    return jax.scipy.linalg.solve_triangular(_factor(params), rows.reshape(-1, rows.shape[-1]).T, lower=True).T


def _full_log_prob(params: Params, x: Array) -> Array:
    centred = x - params["mean"]
    squares = jnp.square(_solve(params, centred)).sum(-1).reshape(centred.shape[:-1])
    return -0.5 * squares - _log_determinant(params) - x.shape[-1] * HALF_LOG_TWO_PI


def _full_sample(key: Key, params: Params, shape: tuple[int, ...] = ()) -> Array:
    mean = params["mean"]
    return mean + matmul(jax.random.normal(key, (*shape, *mean.shape), mean.dtype), _factor(params).T)


def _full_kl(params: Params, others: Params) -> Array:
    """½(tr Σ₂⁻¹Σ₁ + (μ₂ − μ₁)ᵀΣ₂⁻¹(μ₂ − μ₁) − d) + ½ log |Σ₂|/|Σ₁|."""
    _check_same_size(params, others)
    spread = jnp.square(_solve(others, _factor(params).T)).sum()
    distance = jnp.square(_solve(others, (params["mean"] - others["mean"])[None])).sum()
    return 0.5 * (spread + distance - len(params["mean"])) + _log_determinant(others) - _log_determinant(params)


full_normal = Distribution(
    _full_log_prob,
    _full_sample,
    lambda params: len(params["mean"]) * (0.5 + HALF_LOG_TWO_PI) + _log_determinant(params),
    _full_kl,
)
"""N(μ, Σ): `mean` [d], `log_cholesky` [d, d]: below its diagonal Σ's Cholesky factor, on it the logarithm of that
factor's, clamped to ± `FULL_LIMIT`; what stands above does not count (Pinheiro & Bates 1996). One distribution; vmap
for a batch of them. A factor so ill-conditioned that the square of its inverse overflows is beyond it."""


def full_normal_params(mean: Float[Array, " d"], covariance: Float[Array, "n n"]) -> Params:
    """Parameters of `full_normal` from μ and Σ.

    Raises `ValueError` for a Σ of another size, not symmetric, or not positive definite. Needs concrete values.
    """
    S = np.asarray(covariance, np.float64)
    if len(mean) != len(S):
        raise ValueError(f"full_normal_params: mean of {len(mean)}, covariance of shape {S.shape}")
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


def _check_same_size(params: Params, others: Params) -> None:
    if params["mean"].shape != others["mean"].shape:
        raise ValueError(f"kl: means of shapes {params['mean'].shape} and {others['mean'].shape}")


def _concentrations(params: Params) -> tuple[Array, Array]:
    return tuple(jnp.exp(clamp_log_scale(params[name])) for name in ("log_alpha", "log_beta"))


def _beta_log_prob(params: Params, x: Array) -> Array:
    alpha, beta_ = _concentrations(params)
    inside = (x > 0) & (x < 1)
    y = jnp.where(inside, x, 0.5)
    log_density = (alpha - 1) * jnp.log(y) + (beta_ - 1) * jnp.log1p(-y) - betaln(alpha, beta_)
    exponent = jnp.where(x == 0, alpha - 1, beta_ - 1)
    edge = jnp.where(exponent == 0, -betaln(alpha, beta_), jnp.where(exponent < 0, jnp.inf, -jnp.inf))
    return jnp.where(inside, log_density, jnp.where((x == 0) | (x == 1), edge, -jnp.inf))


def _beta_sample(key: Key, params: Params, shape: tuple[int, ...] = ()) -> Array:
    alpha, beta_ = _concentrations(params)
    return jax.random.beta(key, alpha, beta_, (*shape, *batch_shape(params)), jnp.result_type(alpha, beta_))


def _beta_cross(params: Params, others: Params) -> Array:
    """−E_p[log q] = log B(α₂, β₂) − (α₂ − 1) E[log x] − (β₂ − 1) E[log(1 − x)]."""
    (a, b), (c, d) = _concentrations(params), _concentrations(others)
    log_x, log_rest = digamma(a) - digamma(a + b), digamma(b) - digamma(a + b)
    return betaln(c, d) - (c - 1) * log_x - (d - 1) * log_rest


beta = Distribution(
    _beta_log_prob,
    _beta_sample,
    lambda params: _beta_cross(params, params),
    lambda params, others: _beta_cross(params, others) - _beta_cross(params, params),
)
"""Density x^{α−1}(1 − x)^{β−1}/B(α, β) on [0, 1]: `log_alpha`, `log_beta`."""
