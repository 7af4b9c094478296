"""The variational autoencoder as a tuple: networks, likelihood, posterior and prior (lecture 24).

p(x) = ∫ p(x|z) p(z) dz with p(x|z) a `Likelihood` of the decoder's outputs. Without further ado q(z|x) = N(μ(x), σ²(x))
and p(z) = N(0, I).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.check import in_range
from dlcore.generative.decoder import Likelihood
from dlcore.generative.vae.posterior import Outputs, Posterior, normal
from dlcore.generative.vae.prior import Encoded, Prior, standard_normal
from dlcore.operands import has_shape
from dlcore.setting import Number
from dlcore.types import Input, Key, Model, Params, State


class VAE(NamedTuple):
    """Networks, likelihood, posterior and prior.

    Params have the branches `encoder` and `decoder`, and `posterior` and `prior` where these have any; state has the
    first two.
    """

    encoder: Model
    """x [b, ...] to the parameters of the codes, in the form that `posterior` reads: for the normal one μ and log σ,
    each [b, d], as a pair of arrays or as one array [b, 2d] of which they are the halves."""
    decoder: Model
    """z [b, d] to the outputs of `likelihood`: one array, or for `gaussian_learned` also the pair (μ, log σ)."""
    likelihood: Likelihood
    spread: str = "log_std"
    """What the encoder gives beside μ: "log_std" for the log of the scale, or "log_variance" for twice that."""
    posterior: Posterior = normal()
    prior: Prior = standard_normal()


def check(vae: VAE) -> VAE:
    """The same; raises `ValueError`, naming both, for a posterior and a prior that do not go together."""
    posterior, prior = vae.posterior, vae.prior
    if prior.name != "vamp" and prior.discrete != posterior.discrete:
        codes = "one-hot" if posterior.discrete else "real"
        wanted = "uniform(categories) or vamp" if posterior.discrete else "standard_normal, vamp or flow_prior"
        raise ValueError(
            f"VAE: posterior {posterior.name!r} has {codes} codes, which prior {prior.name!r} does not; use {wanted}"
        )
    if prior.name == "vamp" and posterior.name in ("flow", "two_level"):
        raise ValueError(
            f"VAE: prior 'vamp' needs the density of every code under every pseudo-input, which posterior "
            f"{posterior.name!r} is too slow for; use a flow prior, or a diagonal posterior"
        )
    if (prior.name == "two_level") != (posterior.name == "two_level"):
        raise ValueError(f"VAE: prior {prior.name!r} with posterior {posterior.name!r}; two levels need both two_level")
    return vae


def init(key: Key, vae: VAE, x: Input) -> tuple[Params, State]:
    """Params and state of all networks for x [b, ...].

    The values of x matter to a `vamp` prior, and to an encoder that starts from data; a decoder that does sees standard
    normal codes. Raises `ValueError` for an encoder that gives something else than
    the posterior reads, and for a posterior and a prior that do not go together (`check`).
    """
    check(vae)
    encoder, encoder_state = vae.encoder.init(jax.random.fold_in(key, 0), x)
    branches = {"encoder": encoder}, {"encoder": encoder_state}
    outputs, _ = jax.eval_shape(lambda x: encode_all(vae, *branches, x), x)
    drawn = jax.random.normal(jax.random.fold_in(key, 2), (len(outputs[0]), vae.posterior.dims(outputs)))
    decoder, decoder_state = vae.decoder.init(jax.random.fold_in(key, 1), drawn)
    params = {"encoder": encoder, "decoder": decoder}
    blank = jax.tree.map(lambda one: jnp.zeros(one.shape, one.dtype), outputs)
    posterior = vae.posterior.init(jax.random.fold_in(key, 3), drawn, blank)
    prior = vae.prior.init(jax.random.fold_in(key, 4), x, drawn)
    params |= {name: own for name, own in (("posterior", posterior), ("prior", prior)) if jax.tree.leaves(own)}
    return params, {"encoder": encoder_state, "decoder": decoder_state}


def encode_all(
    vae: VAE, params: Params, state: State, x: Float[Array, "b ..."], *, train: bool = False, key: Key | None = None
) -> tuple[Outputs, State]:
    """The parameters of the codes of b images, as the posterior reads them, and the new state.

    Raises `ValueError` for another form than the posterior reads, or for arrays without a row for each image.
    """
    output, new = vae.encoder.apply(params["encoder"], state["encoder"], x, train=train, key=key)
    outputs = vae.posterior.read(output, vae.spread)
    shape = (len(x), outputs[0].shape[-1])
    has_shape(
        "encode",
        f"the encoder's {'logits' if vae.posterior.discrete else 'μ'}",
        outputs[0],
        shape,
        f"[b, d] for x {x.shape}",
    )
    return outputs, {**state, "encoder": new}


def encode(
    vae: VAE, params: Params, state: State, x: Float[Array, "b ..."], *, train: bool = False, key: Key | None = None
) -> tuple[Float[Array, "b d"], Float[Array, "b d"], State]:
    """μ and log σ (the log of the scale) of q(z|x), and the new state; of an encoder that gives log σ², half of that.

    Raises `ValueError` unless the encoder gives a pair of equal shapes [b, d], or one array [b, 2d], and for posteriors
    of other parameters.
    """
    if vae.posterior.discrete or vae.posterior.name in ("flow", "two_level"):
        raise ValueError(f"encode: posterior {vae.posterior.name!r} has no μ and log σ; use encode_all or centre")
    (mean, log_std), new = encode_all(vae, params, state, x, train=train, key=key)
    return mean, log_std, new


def code_size(vae: VAE, x: Input) -> int:
    """d, the length of a code of images like x."""
    encoder = jax.eval_shape(vae.encoder.init, jax.random.key(0), x)
    outputs, _ = jax.eval_shape(
        lambda params, state, x: encode_all(vae, {"encoder": params}, {"encoder": state}, x), *encoder, x
    )
    return vae.posterior.dims(outputs)


def centre(vae: VAE, params: Params, state: State, x: Float[Array, "b ..."]) -> Float[Array, "b d"]:
    """The code that stands for each image: E[z|x], or for a flow or levels what the middle of the noise becomes."""
    outputs, _ = encode_all(vae, params, state, x)
    return vae.posterior.centre(params.get("posterior", {}), outputs)


def decode(
    vae: VAE, params: Params, state: State, z: Float[Array, "b d"], *, train: bool = False, key: Key | None = None
) -> tuple[Any, State]:
    """The outputs of p(x|z), as the decoder gives them, and the new state."""
    outputs, new = vae.decoder.apply(params["decoder"], state["decoder"], z, train=train, key=key)
    return outputs, {**state, "decoder": new}


def encoded(vae: VAE, params: Params, state: State) -> Encoded:
    """What a prior is told of the encoder, in evaluation."""
    return Encoded(vae.posterior, params.get("posterior", {}), lambda u: encode_all(vae, params, state, u)[0])


def log_prior(vae: VAE, params: Params, state: State, z: Float[Array, "k b d"]) -> Float[Array, "k b"]:
    """log p(z) in nats."""
    return vae.prior.log_prob(params.get("prior", {}), z, encoded(vae, params, state))


def sample_outputs(
    vae: VAE, params: Params, state: State, z: Float[Array, "b d"], *, key: Key | None = None, temperature: Number = 1.0
) -> Float[Array, "b ..."]:
    """Images of p(x|z): its mean, or a draw at a temperature if a key is given."""
    outputs, _ = decode(vae, params, state, z)
    return vae.likelihood.mean(outputs) if key is None else vae.likelihood.sample(key, outputs, temperature)


def sample_codes(
    key: Key, vae: VAE, params: Params, state: State, shape: Sequence[int], *, temperature: Number = 1.0
) -> Float[Array, "b d"]:
    """z ~ p(z) of `shape` [b, d]; T < 1 stays nearer to the middle of the prior.

    T may be traced. Raises `ValueError` for T < 0, where it is known.
    """
    in_range("sample", "temperature", temperature, lambda t: t >= 0, "not be negative")
    return vae.prior.sample(key, params.get("prior", {}), tuple(shape), temperature, encoded(vae, params, state))


def sample(
    key: Key, vae: VAE, params: Params, state: State, shape: Sequence[int], *, temperature: Number = 1.0
) -> Float[Array, "b ..."]:
    """Means of p(x|z) for z from the prior at a temperature, of the latent `shape` [b, d], see `sample_codes`."""
    return sample_outputs(vae, params, state, sample_codes(key, vae, params, state, shape, temperature=temperature))
