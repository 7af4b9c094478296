"""Priors p(z) of the codes: standard, a mixture of posteriors, a flow (lecture 24, 28.4). Densities in nats."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.vae.posterior import Outputs, Posterior
from dlcore.setting import Number, whole
from dlcore.stats import HALF_LOG_TWO_PI
from dlcore.types import Bijector, Input, Key, Params


class Encoded(NamedTuple):
    """What a prior may know of the rest of the model: q(z | encoder(u)) for images u of its own."""

    posterior: Posterior
    params: Params
    """Those of the posterior."""
    encode: Callable[[Array], Outputs]


def _no_params(key: Key, x: Input, z: Array) -> Params:
    return {}


class Prior(NamedTuple):
    """A family p(z) of codes [..., d], with parameters of its own."""

    name: str
    log_prob: Callable[[Params, Array, Encoded], Array]
    """`(params, z [k, b, d], encoded) -> log p(z) [k, b]`."""
    sample: Callable[..., Array]
    """`(key, params, shape [b, d], temperature, encoded) -> z`; T < 1 stays nearer to the middle."""
    init: Callable[[Key, Array, Array], Params] = _no_params
    """`(key, x [b, ...], z [b, d]) -> params`, from a batch of images and codes of standard noise."""
    discrete: bool = False
    """Whether it is over one-hot codes."""


def log_normal(z: Float[Array, "*b d"]) -> Float[Array, "*b"]:
    """log N(z; 0, I)."""
    return (-0.5 * jnp.square(z) - HALF_LOG_TWO_PI).sum(-1)


def standard_normal() -> Prior:
    """p(z) = N(0, I)."""
    return Prior(
        "standard",
        lambda params, z, encoded: log_normal(z),
        lambda key, params, shape, temperature, encoded: temperature * jax.random.normal(key, tuple(shape)),
    )


def uniform(categories: int) -> Prior:
    """All one-hot codes equally likely: log p(z) = −n log c. A temperature changes nothing."""
    categories = whole(categories, "uniform: categories", least=2)

    def log_prob(params: Params, z: Float[Array, "k b d"], encoded: Encoded) -> Array:
        return jnp.full(z.shape[:-1], -(z.shape[-1] // categories) * math.log(categories), z.dtype)

    def sample(key: Key, params: Params, shape: tuple[int, int], temperature: Number, encoded: Encoded) -> Array:
        chosen = jax.random.randint(key, (shape[0], shape[1] // categories), 0, categories)
        return jax.nn.one_hot(chosen, categories).reshape(tuple(shape))

    return Prior("standard", log_prob, sample, discrete=True)


def flow_prior(bijector: Bijector) -> Prior:
    """log p(z) = log N(f(z); 0, I) + log|det J_f(z)|; draws are f⁻¹(T ε) (lecture 28.4; Chen et al. 2017)."""

    def log_prob(params: Params, z: Float[Array, "k b d"], encoded: Encoded) -> Array:
        latent, log_det = bijector.forward(params, z.reshape(-1, z.shape[-1]))
        return (log_normal(latent) + log_det).reshape(z.shape[:-1])

    def sample(key: Key, params: Params, shape: tuple[int, int], temperature: Number, encoded: Encoded) -> Array:
        return bijector.inverse(params, temperature * jax.random.normal(key, tuple(shape)))[0]

    return Prior("flow", log_prob, sample, lambda key, x, z: bijector.init(key, z))


def vamp(components: int) -> Prior:
    """p(z) = (1/K) Σ_k q(z|u_k), K learned pseudo-inputs u in (0, 1) (Tomczak & Welling 2018).

    They are kept as logits, `inputs` [K, ...], and begin near images of the first batch. The gradient reaches them
    through the encoder. A draw of temperature T is that of the posterior of a pseudo-input, its noise times T.
    Raises `ValueError` for no component.
    """
    components = whole(components, "vamp: components")

    def init(key: Key, x: Input, z: Array) -> Params:
        if isinstance(x, jax.ShapeDtypeStruct):
            raise ValueError("vamp: pseudo-inputs begin near images; start from a batch of them, not from its shape")
        which, how = jax.random.split(key)
        chosen = jnp.asarray(x)[jax.random.randint(which, (components,), 0, len(x))]
        logits = jax.scipy.special.logit(jnp.clip(chosen.astype(jnp.float32), 0.05, 0.95))
        return {"inputs": logits + 0.1 * jax.random.normal(how, logits.shape)}

    def log_prob(params: Params, z: Float[Array, "k b d"], encoded: Encoded) -> Array:
        outputs = encoded.encode(jax.nn.sigmoid(params["inputs"]))
        log_q = _pairs(encoded, outputs, z.reshape(-1, z.shape[-1]))
        return (jax.nn.logsumexp(log_q, axis=-1) - math.log(components)).reshape(z.shape[:-1])

    def sample(key: Key, params: Params, shape: tuple[int, int], temperature: Number, encoded: Encoded) -> Array:
        outputs = encoded.encode(jax.nn.sigmoid(params["inputs"]))
        which, noise = jax.random.split(key)
        chosen = jax.random.randint(which, shape[:1], 0, components)
        outputs = jax.tree.map(lambda array: array[chosen], outputs)
        eps = temperature * encoded.posterior.noise(noise, (1, *shape))
        return encoded.posterior.place(encoded.params, outputs, eps)[0][0]

    return Prior("vamp", log_prob, sample, init)


def _pairs(encoded: Encoded, outputs: Outputs, z: Float[Array, "n d"]) -> Float[Array, "n K"]:
    """log q of every code under every one of K outputs."""
    posterior, params = encoded.posterior, encoded.params
    if posterior.pairs is not None:
        return posterior.pairs(params, outputs, z)
    of_one = jax.vmap(lambda one: posterior.log_prob(params, one, z[:, None])[:, 0], out_axes=-1)
    return of_one(jax.tree.map(lambda array: array[:, None], outputs))
