"""Variational autoencoder: reparametrisation, evidence lower bound, importance-weighted bounds (lecture 24).

p(z) = N(0, I), q(z|x) = N(μ(x), σ²(x)), p(x|z) a `Likelihood` of the decoder's outputs. Bounds are in nats per image.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.backend import on_cpu
from dlcore.generative.check import in_range, is_zero, like_examples
from dlcore.generative.decoder import Likelihood
from dlcore.nn import convolves
from dlcore.operands import equal_shapes, has_shape
from dlcore.precision import highest
from dlcore.setting import Number
from dlcore.stats import kl_normal
from dlcore.types import Aux, Batch, Input, Key, Mean, Model, Objective, Params, State

Noise = Callable[..., Array]
"""A standard sampler `(key, shape) -> array`: `jax.random.normal`, `laplace` or `logistic`."""

SPREADS = ("log_std", "log_variance")
"""Logs of what an encoder may give beside μ: σ or σ²."""


class VAE(NamedTuple):
    """Networks and likelihood; params and state have the branches `encoder` and `decoder`."""

    encoder: Model
    """x [b, ...] to μ and log σ, each [b, d]: a pair of arrays, or one array [b, 2d] of which they are the halves."""
    decoder: Model
    """z [b, d] to the outputs of `likelihood`: one array, or for `gaussian_learned` also the pair (μ, log σ)."""
    likelihood: Likelihood
    spread: str = "log_std"
    """What the encoder gives beside μ, in either form: "log_std" for log σ, or "log_variance" for log σ²."""


class Terms(NamedTuple):
    """The two terms of the bound: −log p(x|z) [k, b], and KL(q(z|x) ‖ p(z)) per latent dimension [b, d]."""

    reconstruction: Float[Array, "k b"]
    kl: Float[Array, "b d"]


def reparameterize(
    key: Key, mean: Float[Array, "*s"], log_std: Float[Array, "*s"], noise: Noise = jax.random.normal
) -> Float[Array, "*s"]:
    """z = μ + σ ε with ε from a standard distribution: gradients pass through μ and σ (Kingma & Welling 2014).

    Raises `ValueError` unless μ and log σ have one shape.
    """
    equal_shapes("reparameterize", mean=mean, log_std=log_std)
    return mean + jnp.exp(log_std) * noise(key, mean.shape)


def gumbel_softmax(key: Key, logits: Float[Array, "*b c"], temperature: Number) -> Float[Array, "*b c"]:
    """softmax((a + g)/τ) with Gumbel noise g: a relaxed one-hot draw of softmax(a) (Jang et al. 2017, eq. 2).

    τ may be traced, to be annealed. Raises `ValueError` unless τ > 0, where it is known.
    """
    in_range("gumbel_softmax", "temperature", temperature, lambda t: t > 0, "be positive")
    return jax.nn.softmax((logits + jax.random.gumbel(key, logits.shape)) / temperature)


def init(key: Key, vae: VAE, x: Input) -> tuple[Params, State]:
    """Params and state of both networks for x [b, ...], and a count of training steps for the warm-up of β.

    Raises `ValueError` for an encoder that gives something else than μ and log σ, see `encode`.
    """
    encoder, encoder_state = vae.encoder.init(jax.random.fold_in(key, 0), x)
    mean, _, _ = jax.eval_shape(lambda x: encode(vae, {"encoder": encoder}, {"encoder": encoder_state}, x), x)
    z = jax.ShapeDtypeStruct(mean.shape, jnp.float32)
    decoder, decoder_state = vae.decoder.init(jax.random.fold_in(key, 1), z)
    state = {"encoder": encoder_state, "decoder": decoder_state}
    return {"encoder": encoder, "decoder": decoder}, state


def encode(
    vae: VAE, params: Params, state: State, x: Float[Array, "b ..."], *, train: bool = False, key: Key | None = None
) -> tuple[Float[Array, "b d"], Float[Array, "b d"], State]:
    """μ and log σ of q(z|x), and the new state; of an encoder that gives log σ², half of that.

    Raises `ValueError` unless the encoder gives a pair of equal shapes [b, d], or one array [b, 2d].
    """
    if vae.spread not in SPREADS:
        raise ValueError(f"VAE: spread must be one of {', '.join(SPREADS)}, got {vae.spread!r}")
    code, new = vae.encoder.apply(params["encoder"], state["encoder"], x, train=train, key=key)
    mean, spread = _pair(code, vae.spread)
    has_shape("encode", "the encoder's μ", mean, (len(x), mean.shape[-1]), f"[b, d] for x {x.shape}")
    return mean, spread if vae.spread == "log_std" else spread / 2, {**state, "encoder": new}


def _pair(code: Any, spread: str) -> tuple[Array, Array]:
    """Both arrays of the encoder's output, in either form."""
    if hasattr(code, "shape"):
        if code.shape[-1] % 2:
            raise ValueError(f"the encoder gives {code.shape[-1]} numbers; it must give μ and {spread}, an even number")
        mean, other = jnp.split(code, 2, axis=-1)
        return mean, other
    if not isinstance(code, tuple | list) or len(code) != 2:
        found = f"{type(code).__name__} of {len(jax.tree.leaves(code))} arrays"
        raise ValueError(f"the encoder gives a {found}; it must give (μ, {spread}), or one array of both halves")
    mean, other = code
    equal_shapes("the encoder's pair", **{"mean": mean, spread: other})
    return mean, other


def decode(
    vae: VAE, params: Params, state: State, z: Float[Array, "b d"], *, train: bool = False, key: Key | None = None
) -> tuple[Any, State]:
    """The outputs of p(x|z), as the decoder gives them, and the new state."""
    outputs, new = vae.decoder.apply(params["decoder"], state["decoder"], z, train=train, key=key)
    return outputs, {**state, "decoder": new}


def reconstruction_nll(
    vae: VAE, params: Params, state: State, x: Float[Array, "b ..."], z: Float[Array, "k b d"], **options: Any
) -> tuple[Float[Array, "k b"], State]:
    """−log p(x|z) of k codes per image, and the new state. Raises `ValueError` unless all images have codes."""
    has_shape("reconstruction_nll", "z", z, (len(z), len(x), z.shape[-1]), f"[k, b, d] for x {x.shape}")
    outputs, state = decode(vae, params, state, z.reshape(-1, z.shape[-1]), **options)
    outputs = jax.tree.map(lambda array: array.reshape(*z.shape[:2], *array.shape[1:]), outputs)
    nll = vae.likelihood.nll(outputs, jnp.broadcast_to(x, (len(z), *x.shape)))
    return nll.reshape(*z.shape[:2], -1).sum(-1), state


def elbo_terms(vae: VAE, params: Params, state: State, x: Float[Array, "b ..."], noise: Float[Array, "k b d"]) -> Terms:
    """Both terms of −ELBO = E_q[−log p(x|z)] + KL(q(z|x) ‖ p(z)), the first from the k given draws of noise.

    Raises `ValueError` unless there is noise for every image and latent dimension.
    """
    mean, log_std, _ = encode(vae, params, state, x)
    _check_noise("elbo_terms", noise, mean)
    nll, _ = reconstruction_nll(vae, params, state, x, mean + jnp.exp(log_std) * noise)
    return Terms(nll, kl_normal(mean, log_std))


def _check_noise(name: str, noise: Array, mean: Array) -> None:
    has_shape(name, "noise", noise, (len(noise), *mean.shape), f"k draws for codes of shape {mean.shape}")


def log_normal(z: Float[Array, "*b d"]) -> Float[Array, "*b"]:
    """log N(z; 0, I)."""
    return -0.5 * (jnp.square(z) + math.log(2 * math.pi)).sum(-1)


def _log_prior_over_posterior(
    z: Float[Array, "k b d"], noise: Float[Array, "k b d"], log_std: Float[Array, "b d"]
) -> Float[Array, "k b"]:
    """log p(z) − log q(z|x) for z = μ + σ ε."""
    return log_normal(z) - log_normal(noise) + log_std.sum(-1)


def log_weights(
    vae: VAE, params: Params, state: State, x: Float[Array, "b ..."], noise: Float[Array, "k b d"]
) -> Float[Array, "k b"]:
    """log w = log p(x|z) + log p(z) − log q(z|x) of k draws; E[w] = p(x), E[log w] = ELBO.

    Raises `ValueError` unless there is noise for every image and latent dimension.
    """
    mean, log_std, _ = encode(vae, params, state, x)
    _check_noise("log_weights", noise, mean)
    z = mean + jnp.exp(log_std) * noise
    nll, _ = reconstruction_nll(vae, params, state, x, z)
    return _log_prior_over_posterior(z, noise, log_std) - nll


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
    if chunk < 1 or samples % chunk:
        raise ValueError(f"log_likelihood: chunk={chunk} must divide samples={samples}")
    like_examples("log_likelihood", "keys", keys if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key) else keys[:, 0], x)
    mean, log_std, _ = encode(vae, params, state, x)
    deviation = jnp.exp(log_std)

    def draw(key: Key, i: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(key, i), (chunk, mean.shape[-1]))

    def body(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        noise = jax.vmap(draw, (0, None), 1)(keys, i)
        z = mean + deviation * noise
        log_w = _log_prior_over_posterior(z, noise, log_std) - reconstruction_nll(vae, params, state, x, z)[0]
        first, second = (jax.nn.logsumexp(power * log_w, axis=0) for power in (1, 2))
        return (jnp.logaddexp(carry[0], first), jnp.logaddexp(carry[1], second)), None

    empty = jnp.full(mean.shape[0], -jnp.inf)
    # A convolution inside a loop is slow on CPU; there the chunks are written out.
    slow = on_cpu() and convolves(jax.make_jaxpr(body)((empty, empty), 0))
    steps = jnp.arange(samples // chunk)
    (first, second), _ = jax.lax.scan(body, (empty, empty), steps, unroll=len(steps) if slow else 1)
    relative = jnp.exp(second - 2 * first + math.log(samples)) - 1
    return first - math.log(samples), jnp.sqrt(jnp.maximum(relative, 0.0) / samples)


def negative_elbo(
    vae: VAE,
    *,
    beta: Number = 1.0,
    warmup_steps: int = 0,
    free_bits: Number = 0.0,
    samples: int = 1,
    analytic_kl: bool = True,
    target: str = "image",
) -> Objective:
    """L = mean over the batch of E_q[−log p(x|z)] + β KL, the objective of a (β-)VAE.

    β rises linearly from 0 over `warmup_steps` training steps (Sønderby et al. 2016). Free bits: each latent
    dimension's KL, averaged over the batch, counts at least λ nats (Kingma et al. 2016, eq. 15). With `analytic_kl` off
    the KL is estimated from the draws, log q(z|x) − log p(z). β and λ may be traced. Metrics: `loss`, `elbo_nats` (the
    ELBO at β = 1, a lower bound of log p(x)), `reconstruction_nats` (E_q[−log p(x|z)]), `kl_nats`. Raises `ValueError`
    for negative β or λ, and for free bits without the analytic KL.
    """
    in_range("negative_elbo", "beta", beta, lambda b: b >= 0, "not be negative")
    in_range("negative_elbo", "free_bits", free_bits, lambda b: b >= 0, "not be negative")
    free = not is_zero(free_bits)
    if free and not analytic_kl:
        raise ValueError("free_bits are defined per dimension of the analytic KL; set analytic_kl=True")

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        x, keys = batch[target], jax.random.split(key, 3)
        mean, log_std, new = encode(vae, params, state, x, train=train, key=keys[0])
        noise = jax.random.normal(keys[1], (samples, *mean.shape))
        z = mean + jnp.exp(log_std) * noise
        nll, new = reconstruction_nll(vae, params, new, x, z, train=train, key=keys[2])
        per_dim = kl_normal(mean, log_std)
        kl = per_dim.sum(-1) if analytic_kl else -_log_prior_over_posterior(z, noise, log_std).mean(0)
        counted = jnp.maximum(per_dim.mean(0), free_bits).sum() if free else kl.mean()
        warming = warmup_steps and step is not None
        weight = beta * jnp.minimum(1.0, (step + 1) / warmup_steps) if warming else beta
        loss = nll.mean() + weight * counted
        found = {"loss": loss[None], "elbo_nats": -(nll.mean(0) + kl), "reconstruction_nats": nll, "kl_nats": kl}
        return loss, Aux(new, {name: Mean.of(value) for name, value in found.items()})

    return objective


def negative_iwae(vae: VAE, *, samples: int, target: str = "image") -> Objective:
    """L = −mean over the batch of log (1/k) Σ_i w_i, the importance-weighted autoencoder (Burda et al. 2016).

    Metrics: `loss`, and `elbo_nats`, the ELBO from the same draws.
    """

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        x, keys = batch[target], jax.random.split(key, 3)
        mean, log_std, new = encode(vae, params, state, x, train=train, key=keys[0])
        noise = jax.random.normal(keys[1], (samples, *mean.shape))
        z = mean + jnp.exp(log_std) * noise
        nll, new = reconstruction_nll(vae, params, new, x, z, train=train, key=keys[2])
        log_w = _log_prior_over_posterior(z, noise, log_std) - nll
        bound = -iwae_bound(log_w)
        return bound.mean(), Aux(new, {"loss": Mean.of(bound), "elbo_nats": Mean.of(log_w)})

    return objective


def sample_outputs(
    vae: VAE, params: Params, state: State, z: Float[Array, "b d"], *, key: Key | None = None, temperature: Number = 1.0
) -> Float[Array, "b ..."]:
    """Images of p(x|z): its mean, or a draw at a temperature if a key is given."""
    outputs, _ = decode(vae, params, state, z)
    return vae.likelihood.mean(outputs) if key is None else vae.likelihood.sample(key, outputs, temperature)


def sample(
    key: Key, vae: VAE, params: Params, state: State, shape: Sequence[int], *, temperature: Number = 1.0
) -> Float[Array, "b ..."]:
    """Means of p(x|Tz) for z ~ N(0, I) of the latent `shape` [b, d]; T < 1 stays nearer to the middle of the prior.

    T may be traced. Raises `ValueError` unless T > 0, where it is known.
    """
    in_range("sample", "temperature", temperature, lambda t: t > 0, "be positive")
    return sample_outputs(vae, params, state, temperature * jax.random.normal(key, shape))


class Activity(NamedTuple):
    """Sums over images of the posterior means, of their squares, of the KL per dimension, and of ones; they add up."""

    mean: Float[Array, " d"]
    square: Float[Array, " d"]
    kl: Float[Array, " d"]
    count: Float[Array, ""]


@highest
def activity(mean: Float[Array, "b d"], log_std: Float[Array, "b d"], where: Array) -> Activity:
    """Sums over the images that `where` [b] marks; others may be NaN. Raises `ValueError` for other shapes."""
    equal_shapes("activity", mean=mean, log_std=log_std)
    like_examples("activity", "where", where, mean)
    mean, log_std = (jnp.where(where[:, None], x, 0.0) for x in (mean, log_std))
    weight = where.astype(jnp.float32)
    return Activity(weight @ mean, weight @ jnp.square(mean), weight @ kl_normal(mean, log_std), weight.sum())


def active_units(sums: Activity, threshold: float = 0.01) -> Array:
    """How many latent dimensions have Var_x(E_q[z]) above the threshold (Burda et al. 2016, section 5)."""
    return jnp.sum(sums.square / sums.count - jnp.square(sums.mean / sums.count) > threshold)
