"""Approximate posteriors q(z|x) that an encoder's outputs describe (lecture 24.1, 28.4).

A posterior turns standard noise ε into codes, z = g(ε; φ(x)), with log q(z|x) of these in nats. Codes are [k, b, d], k
of them for each of b images; an encoder's outputs are a tuple of arrays with b rows, the **code's parameters**.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.vae.outputs import pair
from dlcore.precision import matmul
from dlcore.stats import HALF_LOG_TWO_PI, Distribution, kl_normal
from dlcore.stats import laplace as laplace_distribution
from dlcore.stats import logistic as logistic_distribution
from dlcore.stats import normal as normal_distribution
from dlcore.types import Bijector, Key, Params

Outputs = tuple[Array, ...]
"""What the encoder says about b images, as `Posterior.read` gives it: (μ, log s), or logits, or (μ, log σ, context)."""


def _no_params(key: Key, z: Array, outputs: Outputs) -> Params:
    return {}


def _plain(step: Array | None) -> None:
    return None


class Posterior(NamedTuple):
    """A family q(z | outputs), with parameters of its own where it has networks; nats, summed over dimensions."""

    name: str
    read: Callable[[Any, str], Outputs]
    """`(encoder's output, spread) -> outputs`; raises `ValueError` for other forms."""
    dims: Callable[[Outputs], int]
    """d, the length of a code."""
    noise: Callable[..., Array]
    """`(key, shape, dtype) -> ε`: the standard draws that `place` takes, of the shape of the codes."""
    place: Callable[[Params, Outputs, Array], tuple[Array, Array | None]]
    """`(params, outputs, ε [k, b, d]) -> z [k, b, d], log q(z) [k, b]`; None for a relaxation without density."""
    log_prob: Callable[[Params, Outputs, Array], Array] | None
    """`(params, outputs, z [k, b, d]) -> log q(z) [k, b]` of any codes."""
    centre: Callable[[Params, Outputs], Array]
    """`(params, outputs) -> [b, d]`: the code that stands for an image, E[z] where that is simple."""
    kl: Callable[[Outputs], Array] | None = None
    """`outputs -> [b, n]`: KL to the standard prior per latent variable in closed form, where there is one."""
    init: Callable[[Key, Array, Outputs], Params] = _no_params
    """`(key, z [b, d], outputs) -> params`."""
    pathwise: bool = True
    """Whether z is differentiable in the outputs."""
    discrete: bool = False
    """Whether codes are one-hot vectors, under a uniform prior, not real ones under N(0, I)."""
    pairs: Callable[[Params, Outputs, Array], Array] | None = None
    """A quicker `log_prob` of every code under every one of K outputs: `(params, outputs, z [n, d]) -> [n, K]`."""
    training: Callable[[Array | None], "Posterior | None"] = _plain
    """`step -> the relaxation that training uses instead`, or None."""


def _location_scale(
    name: str, family: Distribution, noise: Callable[..., Array], variance: float, entropy: float
) -> Posterior:
    """z = μ + s ε with independent ε of a standard `family`, whose variance and entropy are given."""

    def place(params: Params, outputs: Outputs, eps: Float[Array, "k b d"]) -> tuple[Array, Array]:
        mean, log_scale = outputs
        density = family.log_prob({"mean": 0.0, "log_scale": 0.0}, eps)
        return mean + jnp.exp(log_scale) * eps, (density - log_scale).sum(-1)

    def log_prob(params: Params, outputs: Outputs, z: Float[Array, "k b d"]) -> Array:
        mean, log_scale = outputs
        standard = family.log_prob({"mean": 0.0, "log_scale": 0.0}, (z - mean) * jnp.exp(-log_scale))
        return (standard - log_scale).sum(-1)

    def to_standard_normal(outputs: Outputs) -> Float[Array, "b d"]:
        mean, log_scale = outputs
        second_moment = jnp.square(mean) + variance * jnp.exp(2 * log_scale)
        return 0.5 * second_moment + HALF_LOG_TWO_PI - entropy - log_scale

    return Posterior(
        name,
        read=pair,
        dims=lambda outputs: outputs[0].shape[-1],
        noise=noise,
        place=place,
        log_prob=log_prob,
        centre=lambda params, outputs: outputs[0],
        kl=to_standard_normal,
    )


def normal() -> Posterior:
    """q(z|x) = N(μ, diag σ²), outputs (μ, log σ); KL = ½ Σ (σ² + μ² − 1) − Σ log σ (Kingma & Welling 2014)."""

    def pairs(params: Params, outputs: Outputs, z: Float[Array, "n d"]) -> Float[Array, "n K"]:
        mean, log_std = outputs
        weight = jnp.exp(-2 * log_std)
        squares = (
            matmul(jnp.square(z), weight.T) - 2 * matmul(z, (mean * weight).T) + (jnp.square(mean) * weight).sum(-1)
        )
        return -0.5 * squares - (log_std + HALF_LOG_TWO_PI).sum(-1)

    family = _location_scale("normal", normal_distribution, jax.random.normal, 1.0, 0.5 + HALF_LOG_TWO_PI)
    return family._replace(kl=lambda outputs: kl_normal(*outputs), pairs=pairs)


def laplace() -> Posterior:
    """Independent Laplace(μ, b), outputs (μ, log b); KL to N(0, 1) = ½(μ² + 2b²) + ½ log 2π − 1 − log 2b."""
    return _location_scale("laplace", laplace_distribution, jax.random.laplace, 2.0, 1 + math.log(2))


def logistic() -> Posterior:
    """Independent logistic(μ, s), outputs (μ, log s); KL to N(0, 1) = ½(μ² + s²π²/3) + ½ log 2π − 2 − log s."""
    return _location_scale("logistic", logistic_distribution, jax.random.logistic, math.pi**2 / 3, 2.0)


def flow(bijector: Bijector, latent: int) -> Posterior:
    """z = f(μ + σ ε; h) with ε ~ N(0, I): log q(z|x) = log N(ε) − Σ log σ − log|det J_f| (Kingma et al. 2016).

    f is the `forward` of `bijector`, from a diagonal normal to the code; a masked autoregressive one is then an inverse
    autoregressive flow: its own draws and their densities cost one pass, the density of other codes (`log_prob`) goes
    through `inverse`, d passes. Outputs are μ and log σ, each [b, latent], and for a `conditional` bijector all further
    numbers of the encoder as h [b, c], its condition. Raises `ValueError` for numbers that are missing or left over.
    """

    def moved(params: Params, outputs: Outputs, z: Array, move: Callable[..., Any]) -> tuple[Array, Array]:
        k, b, d = z.shape
        context = [jnp.tile(h, (k, 1)) for h in outputs[2:]]
        z, log_det = move(params, z.reshape(k * b, d), *context)
        return z.reshape(k, b, d), log_det.reshape(k, b)

    base = normal()

    def read(output: Any, spread: str) -> Outputs:
        size, given = getattr(output, "shape", (None,))[-1], "μ, log σ" + (" and h" if bijector.conditional else "")
        if size is None or size < 2 * latent or (size > 2 * latent) != bijector.conditional:
            raise ValueError(
                f"the encoder gives {size} numbers; a flow of {latent} dimensions needs one array of {given}"
            )
        context = (output[..., 2 * latent :],) if bijector.conditional else ()
        return (*pair(output[..., : 2 * latent], spread), *context)

    def place(params: Params, outputs: Outputs, eps: Float[Array, "k b d"]) -> tuple[Array, Array]:
        start, log_q = base.place({}, outputs[:2], eps)
        z, log_det = moved(params, outputs, start, bijector.forward)
        return z, log_q - log_det

    def log_prob(params: Params, outputs: Outputs, z: Float[Array, "k b d"]) -> Array:
        start, log_det = moved(params, outputs, z, bijector.inverse)
        return base.log_prob({}, outputs[:2], start) + log_det

    return Posterior(
        "flow",
        read=read,
        dims=base.dims,
        noise=jax.random.normal,
        place=place,
        log_prob=log_prob,
        centre=lambda params, outputs: moved(params, outputs, outputs[0][None], bijector.forward)[0][0],
        init=lambda key, z, outputs: bijector.init(key, z, *outputs[2:]),
    )
