"""Two levels of codes: p(x|z₁, z₂) p(z₁|z₂) p(z₂) under q(z₂|x) q(z₁|z₂, x) (lecture 24; Sønderby et al. 2016).

The posterior is **top-down**: the upper code is drawn from the encoder's top, the lower one given it and features of
the image, as in a ladder. A code is one vector [z₂, z₁], so that every bound and estimator of this room holds as it is.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.vae.model import VAE
from dlcore.generative.vae.outputs import pair, pair_and_rest
from dlcore.generative.vae.posterior import Outputs, Posterior, normal
from dlcore.generative.vae.prior import Encoded, Prior, log_normal
from dlcore.operands import has_shape
from dlcore.setting import Number
from dlcore.types import Key, Model, Params

LOG_STD_RANGE = (-7.0, 3.0)
"""Range of log σ of the lower code, so that no density grows without bound."""


def _init(network: Model, key: Key, *inputs: Array) -> Params:
    params, state = network.init(key, *inputs)
    if jax.tree.leaves(state):
        raise ValueError("two_level: the network has state (a batch norm?); those of posteriors and priors have none")
    return params


def _lower(network: Model, params: Params, size: int, *inputs: Array) -> tuple[Array, Array]:
    """μ and log σ of the lower code, each [n, size]."""
    mean, log_std = pair(network.apply(params, {}, *inputs)[0], "log_std")
    has_shape("two_level", "the network's μ", mean, (len(inputs[0]), size), "[n, lower] for the lower code")
    return mean, jnp.clip(log_std, *LOG_STD_RANGE)


def two_level(network: Model, *, upper: int, lower: int) -> Posterior:
    """q(z|x) = N(z₂; μ₂(x), σ₂²(x)) N(z₁; μ₁, σ₁²), the latter of `network(z₂, h)`, h being features of the image.

    Outputs are μ₂ and log σ₂, each [b, upper], and h [b, ...]; the network gives μ₁ and log σ₁ as a pair, or as halves
    of one array [n, 2·lower]. Raises `ValueError` for other forms and for a network with state.
    """
    base = normal()

    def given(params: Params, outputs: Outputs, z2: Float[Array, "k b u"]) -> tuple[Array, Array]:
        k, b, _ = z2.shape
        features = jnp.broadcast_to(outputs[2], (k, *outputs[2].shape)).reshape(k * b, *outputs[2].shape[1:])
        found = _lower(network, params, lower, z2.reshape(k * b, upper), features)
        return tuple(array.reshape(k, b, lower) for array in found)

    def place(params: Params, outputs: Outputs, noise: Float[Array, "k b d"]) -> tuple[Array, Array]:
        z2, log_q2 = base.place({}, outputs[:2], noise[..., :upper])
        z1, log_q1 = base.place({}, given(params, outputs, z2), noise[..., upper:])
        return jnp.concatenate([z2, z1], -1), log_q2 + log_q1

    def log_prob(params: Params, outputs: Outputs, z: Float[Array, "k b d"]) -> Array:
        z2, z1 = z[..., :upper], z[..., upper:]
        return base.log_prob({}, outputs[:2], z2) + base.log_prob({}, given(params, outputs, z2), z1)

    def centre(params: Params, outputs: Outputs) -> Float[Array, "b d"]:
        z2 = outputs[0]
        return jnp.concatenate([z2, given(params, outputs, z2[None])[0][0]], -1)

    return Posterior(
        "two_level",
        read=pair_and_rest,
        dims=lambda outputs: upper + lower,
        noise=jax.random.normal,
        place=place,
        log_prob=log_prob,
        centre=centre,
        init=lambda key, z, outputs: _init(network, key, z[:, :upper], outputs[2]),
    )


def two_level_prior(network: Model, *, upper: int, lower: int) -> Prior:
    """p(z) = N(z₂; 0, I) N(z₁; μ(z₂), σ²(z₂)), the latter of `network(z₂)` as in `two_level`.

    At a temperature T the noise of both levels is multiplied by it.
    """

    def log_prob(params: Params, z: Float[Array, "k b d"], encoded: Encoded) -> Array:
        z2, z1 = z[..., :upper], z[..., upper:]
        mean, log_std = (array.reshape(z1.shape) for array in _lower(network, params, lower, z2.reshape(-1, upper)))
        return log_normal(z2) + log_normal((z1 - mean) * jnp.exp(-log_std)) - log_std.sum(-1)

    def sample(key: Key, params: Params, shape: tuple[int, int], temperature: Number, encoded: Encoded) -> Array:
        noise = temperature * jax.random.normal(key, tuple(shape))
        mean, log_std = _lower(network, params, lower, noise[:, :upper])
        return jnp.concatenate([noise[:, :upper], mean + jnp.exp(log_std) * noise[:, upper:]], -1)

    return Prior("two_level", log_prob, sample, lambda key, x, z: _init(network, key, z[:, :upper]))


def two_levels(vae: VAE, posterior: Model, prior: Model, *, upper: int, lower: int) -> VAE:
    """The model with codes of two levels, by the networks of `two_level` and of `two_level_prior`."""
    sizes = {"upper": upper, "lower": lower}
    return vae._replace(posterior=two_level(posterior, **sizes), prior=two_level_prior(prior, **sizes))
