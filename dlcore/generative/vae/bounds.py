"""Bounds of log p(x): evidence lower bound, importance weights, and their mean (lecture 24.2). In nats per image."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.backend import on_cpu
from dlcore.generative.check import like_examples
from dlcore.generative.vae.estimators import draw
from dlcore.generative.vae.model import VAE, decode, encode_all, log_prior
from dlcore.generative.vae.posterior import Outputs
from dlcore.nn import convolves
from dlcore.operands import has_shape
from dlcore.setting import whole
from dlcore.types import Key, Params, State


class Terms(NamedTuple):
    """The two terms of −ELBO: −log p(x|z) [k, b], and KL(q(z|x) ‖ p(z)).

    The divergence is in closed form per latent variable [b, n] where there is one, else the estimate
    log q(z|x) − log p(z) of every draw [k, b, 1].
    """

    reconstruction: Float[Array, "k b"]
    kl: Float[Array, "..."]

    def divergence(self) -> Float[Array, " b"]:
        """The second term of each image, in nats."""
        return self.kl.sum(-1) if self.kl.ndim == 2 else self.kl[..., 0].mean(0)


class Weights(NamedTuple):
    """What the weight w = p(x|z) p(z) / q(z|x) of k draws consists of, logarithms [k, b] in nats."""

    nll: Float[Array, "k b"]
    """−log p(x|z)."""
    log_q: Float[Array, "k b"] | None
    log_p: Float[Array, "k b"]
    """log p(z)."""

    def log(self) -> Float[Array, "k b"]:
        """log w."""
        return self.log_p - self.log_q - self.nll


def reconstruction_nll(
    vae: VAE, params: Params, state: State, x: Float[Array, "b ..."], z: Float[Array, "k b d"], **options: Any
) -> tuple[Float[Array, "k b"], State]:
    """−log p(x|z) of k codes per image, and the new state. Raises `ValueError` unless all images have codes."""
    has_shape("reconstruction_nll", "z", z, (len(z), len(x), z.shape[-1]), f"[k, b, d] for x {x.shape}")
    outputs, state = decode(vae, params, state, z.reshape(-1, z.shape[-1]), **options)
    outputs = jax.tree.map(lambda array: array.reshape(*z.shape[:2], *array.shape[1:]), outputs)
    nll = vae.likelihood.nll(outputs, jnp.broadcast_to(x, (len(z), *x.shape)))
    return nll.reshape(*z.shape[:2], -1).sum(-1), state


def weigh(
    vae: VAE,
    params: Params,
    state: State,
    x: Float[Array, "b ..."],
    outputs: Outputs,
    noise: Float[Array, "k b d"],
    *,
    gradient: str = "pathwise",
    **options: Any,
) -> tuple[Weights, State]:
    """The parts of log w for the codes that standard `noise` becomes, and the new state of the decoder.

    `gradient` names the estimator that differentiation gives, see `estimators`.
    """
    z, log_q = draw(vae.posterior, params.get("posterior", {}), outputs, noise, gradient)
    nll, state = reconstruction_nll(vae, params, state, x, z, **options)
    return Weights(nll, log_q, log_prior(vae, params, state, z)), state


def closed_form(vae: VAE) -> bool:
    """Whether KL(q(z|x) ‖ p(z)) has a closed form: under the standard prior, for posteriors that know it."""
    return vae.posterior.kl is not None and vae.prior.name == "standard"


def elbo_terms(vae: VAE, params: Params, state: State, x: Float[Array, "b ..."], noise: Float[Array, "k b d"]) -> Terms:
    """Both terms of −ELBO = E_q[−log p(x|z)] + KL(q(z|x) ‖ p(z)), the first from the k given draws of noise.

    Raises `ValueError` unless there is noise for every image and latent dimension.
    """
    outputs, _ = encode_all(vae, params, state, x)
    _check_noise("elbo_terms", vae, noise, outputs)
    found, _ = weigh(vae, params, state, x, outputs, noise)
    if closed_form(vae):
        return Terms(found.nll, vae.posterior.kl(outputs))
    return Terms(found.nll, (found.log_q - found.log_p)[..., None])


def _check_noise(name: str, vae: VAE, noise: Array, outputs: Outputs) -> None:
    shape = (len(outputs[0]), vae.posterior.dims(outputs))
    has_shape(name, "noise", noise, (len(noise), *shape), f"k draws for codes of shape {shape}")


def log_weights(
    vae: VAE, params: Params, state: State, x: Float[Array, "b ..."], noise: Float[Array, "k b d"]
) -> Float[Array, "k b"]:
    """log w = log p(x|z) + log p(z) − log q(z|x) of k draws; E[w] = p(x), E[log w] = ELBO.

    Raises `ValueError` unless there is noise for every image and latent dimension.
    """
    outputs, _ = encode_all(vae, params, state, x)
    _check_noise("log_weights", vae, noise, outputs)
    return weigh(vae, params, state, x, outputs, noise)[0].log()


def iwae_bound(log_weights: Float[Array, "k *b"]) -> Float[Array, "*b"]:
    """log (1/k) Σ_i w_i ≤ log p(x) in expectation, rising with k (Burda et al. 2016, eq. 8).

    Raises `ValueError` when there is no weight.
    """
    if not log_weights.ndim or not len(log_weights):
        raise ValueError(f"iwae_bound: log_weights must be [k, ...] with k at least 1, got shape {log_weights.shape}")
    return jax.nn.logsumexp(log_weights, axis=0) - math.log(log_weights.shape[0])


def log_likelihood(
    vae: VAE, params: Params, state: State, x: Float[Array, "b ..."], keys: Key, *, samples: int, chunk: int
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """The IWAE bound from `samples` draws per image, `chunk` at a time, and the Monte-Carlo error of each.

    One key per image. The error is that of the log of a mean, sd(w)/(√k · mean(w)) to first order. Raises `ValueError`
    when `chunk` does not divide `samples`, or without one key per image. Memory is that of b · chunk decoded images.
    """
    samples, chunk = whole(samples, "log_likelihood: samples"), whole(chunk, "log_likelihood: chunk")
    if samples % chunk:
        raise ValueError(f"log_likelihood: chunk={chunk} must divide samples={samples}")
    like_examples("log_likelihood", "keys", keys if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else keys[:, 0], x)
    outputs, _ = encode_all(vae, params, state, x)
    dims = vae.posterior.dims(outputs)

    def standard(key: Key, i: Array) -> Array:
        return vae.posterior.noise(jax.random.fold_in(key, i), (chunk, dims))

    def body(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        noise = jax.vmap(standard, (0, None), 1)(keys, i)
        log_w = weigh(vae, params, state, x, outputs, noise)[0].log()
        first, second = (jax.nn.logsumexp(power * log_w, axis=0) for power in (1, 2))
        return (jnp.logaddexp(carry[0], first), jnp.logaddexp(carry[1], second)), None

    empty = jnp.full(len(x), -jnp.inf)
    # A convolution inside a loop is slow on CPU; there the chunks are written out.
    slow = on_cpu() and convolves(jax.make_jaxpr(body)((empty, empty), 0))
    steps = jnp.arange(samples // chunk)
    (first, second), _ = jax.lax.scan(body, (empty, empty), steps, unroll=len(steps) if slow else 1)
    relative = jnp.exp(second - 2 * first + math.log(samples)) - 1
    return first - math.log(samples), jnp.sqrt(jnp.maximum(relative, 0.0) / samples)
