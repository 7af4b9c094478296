"""Densities of images given their class, from the models of this room, for Bayes' rule (lecture 22).

Images are grey levels 0 … L − 1, any integer type; all three give −log P(x|y) of the discrete image in nats, and so can
be compared. Networks are arguments: those of the VAE and the flow take (input, one-hot class [b, c]), that of the
PixelCNN (image, label [b]).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Integer

from dlcore import evaluation
from dlcore.evaluation import Nats, bits_per_dim, summary
from dlcore.generative import autoregressive, classifier, vae
from dlcore.generative.classifier import Posterior, bayes, log_likelihoods
from dlcore.generative.decoder import Likelihood
from dlcore.generative.flow import density, dequantize, discrete_nats, quantize
from dlcore.operands import has_shape
from dlcore.setting import whole
from dlcore.types import Aux, Batch, Bijector, Input, Key, Mean, Model, Objective, Params, State


class ClassDensity(NamedTuple):
    """p(x|y) as functions; batches have `image` [b, h, w, c] (grey levels) and `label` [b]."""

    init: Callable[[Key, Batch], tuple[Params, State]]
    objective: Objective
    log_prob: Callable[..., Float[Array, " b"]]
    """`(params, state, x, labels, keys, observed=None) -> log P(x|y)` in nats, or a lower bound of it; one key per row.

    `observed` [b, h, w, c] marks the pixels that are known, if the density can integrate the others out: `marginal`."""
    draw: Callable[..., Array]
    """`(key, params, state, labels [n]) -> images [n, h, w, c] in [0, 1]`."""
    kind: str
    """"exact" or "upper bound" of −log P(x|y)."""
    marginal: bool = False
    """Whether pixels can be left out."""


def predict(
    density_: ClassDensity,
    params: Params,
    state: State,
    x: Integer[Array, "b h w c"],
    keys: Key,
    log_prior: Float[Array, " classes"],
    observed: Bool[Array, "..."] | None = None,
) -> tuple[Posterior, Float[Array, "b classes"]]:
    """p(y|x) and p(x) by Bayes' rule, and log P(x|y) of every class.

    `observed` may also be [h, w, c], for all images alike. Raises `ValueError` for pixels that are left out of a
    density which cannot.
    """
    if observed is not None and not density_.marginal:
        raise ValueError("predict: this density cannot leave pixels out; fill them in and pass observed=None")
    along = (keys,) if observed is None else (keys, jnp.broadcast_to(observed, x.shape))
    given = log_likelihoods(lambda *args: density_.log_prob(params, state, *args), x, len(log_prior), *along)
    return bayes(given, log_prior), given


def evaluate(density_: ClassDensity, params: Params, state: State, batch: Batch, keys: Key) -> dict[str, Any]:
    """Sums over a batch for a density with its prior: of p(y|x), of −log p(x), and of −log p(x|y) of the true class."""
    posterior, given = predict(density_, params, state, batch["image"], keys, state["log_prior"])
    own = jnp.take_along_axis(given, batch["label"][:, None].astype(jnp.int32), axis=1)[:, 0]
    found = evaluation.classification_sums(posterior.log_posterior, batch["label"], batch["where"])
    nats = Nats.of(-posterior.log_evidence, batch["where"])
    return {**found, "nats": nats, "given": Mean.of(-own, batch["where"])}


def summarize(sums: Mapping[str, Any], dims: int) -> dict[str, float]:
    """`accuracy`, `nll_nats` and `ece` of p(y|x); `bits_per_dim` of p(x), and `bits_per_dim_given_label` of p(x|y)."""
    bits = {name: value for name, value in summary(sums["nats"], dims).items() if "bits" in name}
    given = float(bits_per_dim(float(sums["given"].value()), dims))
    return {**evaluation.classification_summary(sums), **bits, "bits_per_dim_given_label": given}


class HeldOut(NamedTuple):
    """What a fit takes to measure: sums over a batch, those of the test, and what becomes of them."""

    evaluate: Callable[[Params, State, Batch, Key], dict[str, Any]]
    evaluate_test: Callable[[Params, State, Batch, Key], dict[str, Any]]
    summarize: Callable[[Mapping[str, Any]], dict[str, float]]


def held_out(quick: ClassDensity, density_: ClassDensity, row_keys: Callable[[Key, Array], Key], dims: int) -> HeldOut:
    """The protocol: `evaluate` with the `quick` form of a density, in the test with itself, rows by their own keys."""

    def by(used: ClassDensity) -> Callable[[Params, State, Batch, Key], dict[str, Any]]:
        return lambda params, state, batch, key: evaluate(used, params, state, batch, row_keys(key, batch["row"]))

    return HeldOut(by(quick), by(density_), lambda sums: summarize(sums, dims))


def sample(
    key: Key, density_: ClassDensity, params: Params, state: State, count: int, label: Any = None
) -> Float[Array, "n h w c"]:
    """Images of p(x) = Σ_y p(x|y) p(y) of a density with its prior; of one class if a label is given."""
    count = whole(count, "sample: count")
    draw = lambda key, labels: density_.draw(key, params, state, labels)  # noqa: E731
    if label is not None:
        return draw(key, jnp.full(count, label))
    return classifier.sample(key, state["log_prior"], draw, count)[0]


def sampler(density_: ClassDensity) -> Callable[..., Float[Array, "n h w c"]]:
    """`sample` as a fit takes it, compiled: `(params, state, key, num, label=None) -> images`."""
    draw = lambda params, state, key, num, label=None: sample(key, density_, params, state, num, label)  # noqa: E731
    return jax.jit(draw, static_argnums=3)


def judge(density_: ClassDensity, params: Params, state: State, *, key: Key) -> Callable[[Array, Array], Array]:
    """`(x, observed [h, w, c]) -> log p(y|x)` of a density with its prior (`with_prior`), noise by place in the batch.

    A density that cannot leave pixels out sees what x holds there.
    """

    def run(x: Array, observed: Array) -> Array:
        keys = jax.random.split(key, len(x))
        left = observed if density_.marginal else None
        return predict(density_, params, state, x, keys, state["log_prior"], left)[0].log_posterior

    return run


def classify(density_: ClassDensity, *, key: Key) -> Callable[[Params, State, Array], Array]:
    """`(params, state, images) -> log p(y|x)` of grey levels that are complete, as `judge` gives it."""
    return lambda params, state, x: judge(density_, params, state, key=key)(x, jnp.ones(x.shape[1:], bool))


def with_prior(density_: ClassDensity, classes: int) -> ClassDensity:
    """The same density with p(y) beside it: its state is {"model": state, "log_prior": [classes]}, uniform at first."""

    def init(key: Key, batch: Batch) -> tuple[Params, State]:
        params, state = density_.init(key, batch)
        return params, {"model": state, "log_prior": jnp.full(classes, -math.log(classes))}

    def loss(params: Params, state: State, batch: Batch, **options: Any) -> tuple[Array, Aux]:
        value, aux = density_.objective(params, state["model"], batch, **options)
        return value, aux._replace(state={**state, "model": aux.state})

    def log_prob(params: Params, state: State, *args: Any) -> Array:
        return density_.log_prob(params, state["model"], *args)

    def draw(key: Key, params: Params, state: State, labels: Array) -> Array:
        return density_.draw(key, params, state["model"], labels)

    return density_._replace(init=init, objective=loss, log_prob=log_prob, draw=draw)


def told(system: vae.VAE, condition: Float[Array, "b c"], observed: Bool[Array, "b ..."] | None = None) -> vae.VAE:
    """The VAE of p(x|condition): networks that take (input, condition) with the condition put in, so that all of
    `dlcore.generative.vae` applies. Pixels that `observed` does not mark are left out of p(x|z): integrated out, as
    pixels are independent given z."""

    def rows(z: Input) -> Array:
        # Codes come k-major, [k·b, d].
        return jnp.tile(condition, (z.shape[0] // len(condition), 1))

    encoder = Model(
        lambda key, x: system.encoder.init(key, x, condition),
        lambda params, state, x, **options: system.encoder.apply(params, state, x, condition, **options),
    )
    decoder = Model(
        lambda key, z: system.decoder.init(key, z, rows(z)),
        lambda params, state, z, **options: system.decoder.apply(params, state, z, rows(z), **options),
    )
    likelihood = system.likelihood
    if observed is not None:
        whole = likelihood.nll
        likelihood = likelihood._replace(nll=lambda outputs, x: jnp.where(observed, whole(outputs, x), 0))
    return system._replace(encoder=encoder, decoder=decoder, likelihood=likelihood)


def _pixels(x: Array, levels: int) -> Float[Array, "..."]:
    return x.astype(jnp.float32) / (levels - 1)


def of_vae(
    system: vae.VAE, latent: int, classes: int, levels: int, *, samples: int, chunk: int = 1, **objective: Any
) -> ClassDensity:
    """A conditional VAE: log P(x|y) is bounded by the IWAE bound of `samples` codes, `chunk` of them at a time.

    Further arguments are those of `vae.negative_elbo`. Raises `ValueError` for a likelihood of real values.
    """
    if not system.likelihood.discrete:
        raise ValueError("of_vae: the likelihood must be that of grey levels, to be compared with other densities")

    def one_hot(labels: Array) -> Array:
        return jax.nn.one_hot(labels, classes)

    def init(key: Key, batch: Batch) -> tuple[Params, State]:
        return vae.init(key, told(system, one_hot(batch["label"])), _pixels(batch["image"], levels))

    def loss(params: Params, state: State, batch: Batch, **options: Any) -> tuple[Array, Aux]:
        train = vae.negative_elbo(told(system, one_hot(batch["label"])), **objective)
        return train(params, state, {**batch, "image": _pixels(batch["image"], levels)}, **options)

    def log_prob(
        params: Params, state: State, x: Array, labels: Array, keys: Key, observed: Array | None = None
    ) -> Array:
        given = told(system, one_hot(labels), observed)
        options = {"samples": samples, "chunk": chunk}
        return vae.log_likelihood(given, params, state, _pixels(x, levels), keys, **options)[0]

    def draw(key: Key, params: Params, state: State, labels: Array) -> Array:
        z = jax.random.normal(key, (len(labels), latent))
        return vae.sample_outputs(told(system, one_hot(labels)), params, state, z)

    return ClassDensity(init, loss, log_prob, draw, "upper bound", marginal=True)


def of_flow(bijector: Bijector, shape: Sequence[int], classes: int, levels: int) -> ClassDensity:
    """A conditional flow of pixels (x + u)/L in [0, 1), dequantised by uniform noise: a bound in expectation.

    Raises `ValueError` for a bijector without a condition.
    """
    if not bijector.conditional:
        raise ValueError("of_flow: the bijector must be conditional, to be told the class")
    train = density.negative_log_likelihood(bijector, levels=levels, condition="class")
    dims = math.prod(shape)

    def init(key: Key, batch: Batch) -> tuple[Params, State]:
        x = batch["image"]
        y = dequantize(x, jax.random.uniform(jax.random.fold_in(key, 0), x.shape), levels)
        return bijector.init(jax.random.fold_in(key, 1), y, jax.nn.one_hot(batch["label"], classes)), {}

    def loss(params: Params, state: State, batch: Batch, **options: Any) -> tuple[Array, Aux]:
        return train(params, state, {**batch, "class": jax.nn.one_hot(batch["label"], classes)}, **options)

    def log_prob(params: Params, state: State, x: Array, labels: Array, keys: Key) -> Array:
        noise = jax.vmap(lambda key: jax.random.uniform(key, tuple(shape)))(keys)
        y = dequantize(x, noise, levels)
        return -discrete_nats(density.log_prob(bijector, params, y, jax.nn.one_hot(labels, classes)), dims, levels)

    def draw(key: Key, params: Params, state: State, labels: Array) -> Array:
        condition = jax.nn.one_hot(labels, classes)
        return quantize(density.sample(key, bijector, params, (len(labels), dims), condition), levels)

    return ClassDensity(init, loss, log_prob, draw, "upper bound")


def of_pixelcnn(
    network: autoregressive.Incremental, model: Model, likelihood: Likelihood, shape: Sequence[int], levels: int
) -> ClassDensity:
    """A class-conditional PixelCNN, whose log P(x|y) is exact; `network` is its cached form, for samples."""
    train = autoregressive.negative_log_likelihood(model, likelihood, label="label")

    def init(key: Key, batch: Batch) -> tuple[Params, State]:
        return model.init(key, autoregressive.centre(_pixels(batch["image"], levels)), batch["label"])

    def loss(params: Params, state: State, batch: Batch, **options: Any) -> tuple[Array, Aux]:
        return train(params, state, {**batch, "image": _pixels(batch["image"], levels)}, **options)

    def log_prob(params: Params, state: State, x: Array, labels: Int[Array, " b"], keys: Key) -> Array:
        return -autoregressive.nll(model, likelihood, params, state, _pixels(x, levels), labels)

    def draw(key: Key, params: Params, state: State, labels: Array) -> Array:
        has_shape("draw", "labels", labels, (len(labels),), "one class per image")
        return autoregressive.sample(key, network, likelihood, params, (len(labels), *shape), labels)

    return ClassDensity(init, loss, log_prob, draw, "exact")
