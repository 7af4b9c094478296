"""Gradients of expectations over codes: pathwise, score function, sticking the landing, doubly reparametrised (24.1).

All estimate ∇_φ of the same bound, with the same value; they differ in variance and in what they need.

| name | of | needs | source |
|---|---|---|---|
| `pathwise` | ELBO, IWAE | z differentiable | Kingma & Welling 2014 |
| `stl` | ELBO | and q's density of fixed φ | Roeder et al. 2017 |
| `score`, `rloo` | ELBO | q's density alone; `rloo` two draws | Williams 1992; Mnih & Rezende 2016 |
| `dreg` | IWAE | as `stl` | Tucker et al. 2019 |
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.vae.posterior import Outputs, Posterior
from dlcore.operands import equal_shapes
from dlcore.setting import Number
from dlcore.types import Key, Params

ELBO_GRADIENTS = ("pathwise", "stl", "score", "rloo")
IWAE_GRADIENTS = ("pathwise", "dreg")


class Draw(NamedTuple):
    """Codes and their log q(z|x), wired for one of the estimators."""

    z: Float[Array, "k b d"]
    log_q: Float[Array, "k b"] | None


def reparameterize(key: Key, mean: Float[Array, "*s"], log_std: Float[Array, "*s"], noise=jax.random.normal) -> Array:
    """z = μ + σ ε with ε from a standard distribution: gradients pass through μ and σ (Kingma & Welling 2014).

    `noise` is a standard sampler `(key, shape) -> array`: `jax.random.normal`, `laplace` or `logistic`. Raises
    `ValueError` unless μ and log σ have one shape.
    """
    equal_shapes("reparameterize", mean=mean, log_std=log_std)
    return mean + jnp.exp(log_std) * noise(key, mean.shape)


def draw(posterior: Posterior, params: Params, outputs: Outputs, noise: Float[Array, "k b d"], gradient: str) -> Draw:
    """The codes of the given noise and log q of them, through which the gradient called `gradient` flows.

    With "score" and "rloo" codes are constants and log q is not: see `score_surrogate`. With "stl" and "dreg" log q is
    that of the codes under fixed parameters, so that the score, of mean 0, has left the gradient.
    """
    z, log_q = posterior.place(params, outputs, noise)
    if gradient == "pathwise":
        return Draw(z, log_q)
    if gradient in ("score", "rloo"):
        z = jax.lax.stop_gradient(z)
        return Draw(z, posterior.log_prob(params, outputs, z))
    fixed = jax.lax.stop_gradient((params, outputs))
    if gradient == "stl":
        return Draw(z, posterior.log_prob(*fixed, z))
    z, tag = doubly_weighted(z)
    return Draw(z, posterior.log_prob(*fixed, z) - tag)


@jax.custom_vjp
def doubly_weighted(z: Float[Array, "k b d"]) -> tuple[Float[Array, "k b d"], Float[Array, "k b"]]:
    """z, and zeros to be added to the log-weights log w of an importance-weighted bound.

    The bound's gradient gives log w_i the weight w̃_i = w_i/Σ_j w_j, which the zeros report back: what flows into z_i is
    multiplied by w̃_i once more, Σ_i w̃_i² ∂log w_i/∂z_i · ∂z_i/∂φ in all (Tucker et al. 2019, eq. 8). Reverse mode only.
    """
    return z, jnp.zeros(z.shape[:2], z.dtype)


def _forward(z: Array) -> tuple[tuple[Array, Array], None]:
    return doubly_weighted(z), None


def _backward(_: None, cotangents: tuple[Array, Array]) -> tuple[Array]:
    to_z, to_tag = cotangents
    total = to_tag.sum(0)
    # A factor before the loss is in all of them; where it is 0, nothing flows.
    weight = to_tag / jnp.where(total == 0, 1, total)
    return (to_z * weight[..., None],)


doubly_weighted.defvjp(_forward, _backward)


def leave_one_out(values: Float[Array, "k *b"]) -> Float[Array, "k *b"]:
    """The mean of the other draws' values, a baseline that is independent of each draw: (Σ_j f_j − f_i)/(k − 1).

    >>> leave_one_out(jnp.asarray([1.0, 2.0, 6.0])).tolist()
    [4.0, 3.5, 1.5]

    Raises `ValueError` for fewer than two draws.
    """
    if not values.ndim or len(values) < 2:
        raise ValueError(f"leave_one_out: needs at least 2 draws, got shape {values.shape}; raise samples")
    return (values.sum(0) - values) / (len(values) - 1)


def score_surrogate(
    values: Float[Array, "k b"], log_q: Float[Array, "k b"], baseline: Float[Array, "k b"] | Number = 0.0
) -> Float[Array, "k b"]:
    """f, with the gradient ∇f + (f − baseline) ∇log q(z), unbiased for ∇ E_q[f] (Williams 1992).

    Also where z is discrete, and for any baseline that does not depend on the draw. Raises `ValueError` for shapes that
    differ, and a baseline that is neither of theirs nor one number.
    """
    equal_shapes(
        "score_surrogate", values=values, log_q=log_q, **({"baseline": baseline} if jnp.ndim(baseline) else {})
    )
    advantage = jax.lax.stop_gradient(values - baseline)
    return values + advantage * (log_q - jax.lax.stop_gradient(log_q))


def check_gradient(objective: str, gradient: str, posterior: Posterior, samples: int) -> None:
    """Raises `ValueError`, naming both, for an estimator that does not go with the objective or the posterior."""
    allowed = ELBO_GRADIENTS if objective == "elbo" else IWAE_GRADIENTS
    if gradient not in allowed:
        raise ValueError(
            f"gradient must be one of {', '.join(allowed)} for the objective {objective}, got {gradient!r}"
        )
    if gradient in ("pathwise", "stl", "dreg") and not posterior.pathwise:
        raise ValueError(
            f"gradient={gradient!r} needs codes that are differentiable, which those of posterior {posterior.name!r} "
            "are not; use gradient='rloo', or posterior concrete"
        )
    if gradient != "pathwise" and posterior.log_prob is None:
        raise ValueError(
            f"gradient={gradient!r} needs a density of the codes, which posterior {posterior.name!r} has "
            "none of in training; use gradient='pathwise', or posterior categorical"
        )
    if gradient == "rloo" and samples < 2:
        raise ValueError(f"gradient='rloo' compares at least 2 draws, got samples={samples}; raise samples")
