"""Maximum likelihood and maximum a posteriori by gradients, for any log-density (lecture 3.7–3.8, 3.14, 10.15)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, Num

from dlcore.precision import highest
from dlcore.setting import traced
from dlcore.stats._check import check_positive
from dlcore.stats._continuous import laplace, normal
from dlcore.stats._special import wide
from dlcore.types import Params

LogProb = Callable[[Params, Any], Array]
"""`(params, data) -> log p(x_i|θ)` of every sample, or log p(y_i|x_i, θ) with data a pair."""

LARGEST_DAMPING = 1e12
"""No step that decreases the objective is expected beyond."""


Scale = Num[ArrayLike, "..."]
"""One positive number, which may be traced: searched, annealed or differentiated."""


class MaximumFit(NamedTuple):
    """Where the search ended."""

    params: Params
    loss: Float[Array, ""]
    """What was minimised, in nats per sample."""
    gradient_norm: Float[Array, ""]
    """Largest element of its gradient; not small at a kink, such as a median."""
    steps: Array


class _Search(NamedTuple):
    theta: Array
    loss: Array
    gradient: Array
    damping: Array
    step: Array


@highest
def negative_log_likelihood(log_prob: LogProb, params: Params, data: Any) -> Float[Array, ""]:
    """NLL = −(1/m) Σ_i log p(x_i|θ), in nats; tends to the cross-entropy H(p_data, p_θ) as m grows.

    Raises `ValueError` when `log_prob` gives more than one value per sample or element, as [m, m] of targets [m, 1].
    """
    return -_values(log_prob, params, data).mean()


def normal_log_prior(params: Params, std: Scale) -> Float[Array, ""]:
    """Σ_j log N(θ_j; 0, σ²): its gradient is that of −α ½‖θ‖² with α = 1/σ². Raises `ValueError` unless σ > 0."""
    return _log_prior(normal.log_prob, params, std)


def laplace_log_prior(params: Params, scale: Scale) -> Float[Array, ""]:
    """Σ_j log Laplace(θ_j; 0, b): its gradient is that of −α ‖θ‖₁ with α = 1/b. Raises `ValueError` unless b > 0."""
    return _log_prior(laplace.log_prob, params, scale)


@highest
def negative_log_posterior(
    log_prob: LogProb, log_prior: Callable[[Params], Array], params: Params, data: Any
) -> Float[Array, ""]:
    """−(1/m)(Σ_i log p(x_i|θ) + log p(θ)), the NLL with the penalty that the prior is; without log p(x₁ … x_m).

    Raises what `negative_log_likelihood` raises.
    """
    values = _values(log_prob, params, data)
    return -values.mean() - log_prior(params) / values.size


def maximize_likelihood(
    log_prob: LogProb, params: Params, data: Any, *, steps: int = 200, tolerance: Scale = 1e-6
) -> MaximumFit:
    """θ̂ = argmin NLL from a start, by `newton_fit`."""
    return newton_fit(partial(negative_log_likelihood, log_prob), params, data, steps=steps, tolerance=tolerance)


def maximize_posterior(
    log_prob: LogProb,
    log_prior: Callable[[Params], Array],
    params: Params,
    data: Any,
    *,
    steps: int = 200,
    tolerance: Scale = 1e-6,
) -> MaximumFit:
    """θ̂ = argmax p(θ|data) from a start, by `newton_fit`."""
    objective = partial(negative_log_posterior, log_prob, log_prior)
    return newton_fit(objective, params, data, steps=steps, tolerance=tolerance)


def newton_fit(
    objective: Callable[[Params, Any], Array],
    params: Params,
    data: Any,
    *,
    steps: int = 200,
    tolerance: Scale = 1e-6,
) -> MaximumFit:
    """A local minimiser by damped Newton steps, θ ← θ − (H + λI)⁻¹g, for the few parameters of a density.

    λ falls tenfold after a step that does not increase the objective and is taken, and rises tenfold otherwise. Ends
    when no element of g exceeds `tolerance`, after `steps` trials, or when no λ helps. Raises `ValueError` for a start
    at which the objective is not finite (not looked at under jit, where the start is then what comes back).
    """
    theta, unravel = ravel_pytree(params)
    start = objective(params, data)
    if not traced(start) and not np.isfinite(np.asarray(start)):
        raise ValueError(f"newton_fit: the objective is {float(start)} at the start; start inside the support")
    end = jax.jit(_search, static_argnums=(0, 3))(lambda t, d: objective(unravel(t), d), theta, data, steps, tolerance)
    return MaximumFit(unravel(end.theta), end.loss, jnp.abs(end.gradient).max(), end.step)


@highest
def _search(loss: Callable[[Array, Any], Array], theta: Array, data: Any, steps: int, tolerance: Any) -> _Search:
    evaluate = jax.value_and_grad(loss)

    def goes_on(s: _Search) -> Array:
        return (s.step < steps) & (jnp.abs(s.gradient).max() > tolerance) & (s.damping < LARGEST_DAMPING)

    def trial(s: _Search) -> _Search:
        H = jax.hessian(loss)(s.theta, data)
        theta = s.theta - jnp.linalg.solve(H + s.damping * jnp.eye(len(H), dtype=H.dtype), s.gradient)
        value, gradient = evaluate(theta, data)
        # Near the minimum only rounding is left of the decrease.
        better = value <= s.loss + 4 * jnp.finfo(value.dtype).eps * jnp.abs(s.loss)
        taken = better & jnp.isfinite(gradient).all()
        damping = jnp.where(taken, s.damping / 10, s.damping * 10)
        new = _Search(theta, value, gradient, damping, s.step + 1)
        return jax.tree.map(partial(jnp.where, taken), new, s._replace(damping=damping, step=s.step + 1))

    start = _Search(theta, *evaluate(theta, data), jnp.asarray(1e-2, theta.dtype), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(goes_on, trial, start)


def _values(log_prob: LogProb, params: Params, data: Any) -> Array:
    values = wide(log_prob(params, data))
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(data)]
    if not any(values.shape == shape[: values.ndim] for shape in shapes):
        raise ValueError(f"log_prob gives shape {values.shape} for data of shapes {shapes}; it must not broadcast them")
    return values


def _log_prior(log_prob: LogProb, params: Params, scale: Scale) -> Array:
    if jnp.ndim(scale):
        raise ValueError(f"the scale of a prior must be one number, got shape {jnp.shape(scale)}")
    check_positive("prior", scale=scale)
    log_scale = jnp.log(wide(scale))
    return sum((log_prob({"mean": 0.0, "log_scale": log_scale}, x).sum() for x in jax.tree.leaves(params)), wide(0))
