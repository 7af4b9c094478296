"""Autoregressive image models p(x) = Π_i p(x_i | x_<i): likelihood, sampling, completion (lecture 26).

Images are floats in [0, 1] on grey levels. The causal network is an argument: as a `Model` for likelihoods and naive
sampling, or with `start, row, pixel, put` over cached activations. Its input is scaled to [−1, 1].
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dlcore.generative.decoder import Likelihood
from dlcore.operands import has_shape
from dlcore.setting import Number, whole
from dlcore.types import Aux, Batch, Key, Mean, Model, Objective, Params, State


@runtime_checkable
class Incremental(Protocol):
    """A causal network one pixel at a time: see `dlcore.networks.PixelNetwork`."""

    start: Callable[..., Any]
    row: Callable[..., Any]
    pixel: Callable[..., Any]
    put: Callable[..., Any]


def centre(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """[0, 1] to [−1, 1], what the network sees."""
    return 2 * x - 1


def nll(
    model: Model, likelihood: Likelihood, params: Params, state: State, x: Float[Array, "b h w c"], *label: Array
) -> Float[Array, " b"]:
    """−log p(x) = −Σ_i log p(x_i | x_<i) per image, in nats; with a label −log p(x|y), to be compared with care.

    The bound −log p(x, y) ≥ −log p(x) of a conditional network is `likelihood.joint_nats` of it. Raises `ValueError`
    for outputs that do not fit the images.
    """
    outputs, _ = model.apply(params, state, centre(x), *label)
    return likelihood.nll(outputs, x).sum((1, 2, 3))


def negative_log_likelihood(
    model: Model, likelihood: Likelihood, *, target: str = "image", label: str | None = None
) -> Objective:
    """L = mean of −log p(x_i | x_<i) over sub-pixels and images; metrics `loss` (nats per sub-pixel) and `nll_nats`.

    Of p(x), or with `label`, the name of a field, of p(x|y).
    """

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        x = batch[target]
        labels = () if label is None else (batch[label],)
        outputs, state = model.apply(params, state, centre(x), *labels, train=train, key=key)
        sites = likelihood.nll(outputs, x)
        metrics = {"loss": Mean.of(sites), "nll_nats": Mean.of(sites.sum((1, 2, 3)))}
        return sites.mean(), Aux(state, metrics)

    return objective


def _site(key: Key, shape: tuple[int, ...], r: Any, c: Any, colour: Any) -> Key:
    """One key per sub-pixel: naive and cached sampling draw the same."""
    return jax.random.fold_in(key, (r * shape[2] + c) * shape[3] + colour)


def sample_naive(
    key: Key,
    model: Model,
    likelihood: Likelihood,
    params: Params,
    state: State,
    shape: tuple[int, int, int, int],
    *label: Array,
    temperature: Number = 1.0,
) -> Float[Array, "b h w c"]:
    """Draw images of `shape` [b, h, w, c] with one pass of the whole network per sub-pixel (pixel, if `joint`).

    `label` [b] chooses the classes of a conditional network; every sub-pixel is drawn at the temperature, see
    `Likelihood.sample`.
    """

    @jax.jit
    def step(x: Array, r: Array, c: Array, colour: Array) -> Array:
        outputs, _ = model.apply(params, state, centre(x), *label)
        site = jax.lax.dynamic_slice(outputs, (0, r, c, 0), (shape[0], 1, 1, outputs.shape[-1]))[:, 0, 0]
        drawn = likelihood.sample(_site(key, shape, r, c, colour), site, temperature)
        value = drawn if likelihood.joint else jnp.take(drawn, colour[None], axis=-1)
        return jax.lax.dynamic_update_slice(x, value[:, None, None], (0, r, c, colour))

    # A convolution inside a compiled loop is slow on CPU: the loop is here.
    x = jnp.zeros(shape)
    for r in range(shape[1]):
        for c in range(shape[2]):
            for colour in range(_turns(likelihood, shape)):
                x = step(x, r, c, colour)
    return x


def _turns(likelihood: Likelihood, shape: tuple[int, ...]) -> int:
    """Draws per pixel: one for each colour, or one for all."""
    return 1 if likelihood.joint else shape[3]


def sample(
    key: Key,
    network: Incremental,
    likelihood: Likelihood,
    params: Params,
    shape: tuple[int, int, int, int],
    *label: Array,
    known: Float[Array, "b h w c"] | None = None,
    where: Bool[Array, "h w"] | None = None,
    temperature: Number = 1.0,
) -> Float[Array, "b h w c"]:
    """The same draws from cached activations: each pixel costs one pixel of the network.

    With `known` images, the pixels that `where` marks are taken from them and the others drawn given all before:
    the completion of an image. `label` and `temperature` as in `sample_naive`. Raises `ValueError` when only one of
    the two is given, or when they do not have the shapes of the images and of one of them.
    """
    if (known is None) != (where is None):
        raise ValueError("known and where belong together: pass both, or neither")
    if known is not None and where is not None:
        has_shape("sample", "known", known, shape, "the shape of the images")
        has_shape("sample", "where", where, shape[1:3], "one entry per pixel")
    # Positions are traced inside the loop, and NumPy arrays cannot be indexed by them.
    params = jax.tree.map(jnp.asarray, params)
    given = jnp.zeros(shape) if known is None else known
    keep = jnp.zeros(shape[1:3], bool) if where is None else where

    def pixel(c: Array, carry: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
        x, cache, r = carry
        value, turns = jnp.zeros((shape[0], shape[3])), _turns(likelihood, shape)
        for colour in range(turns):
            outputs, cache = network.pixel(params, cache, r, c)
            drawn = likelihood.sample(_site(key, shape, r, c, colour), outputs, temperature)
            here = slice(None) if likelihood.joint else slice(colour, colour + 1)
            value = value.at[:, here].set(jnp.where(keep[r, c], given[:, r, c, here], drawn[:, here]))
            cache = network.put(cache, r, c, centre(value) if colour + 1 == turns else _partly(value, colour))
        return jax.lax.dynamic_update_slice(x, value[:, None, None], (0, r, c, 0)), cache, r

    def row(r: Array, carry: tuple[Array, Any]) -> tuple[Array, Any]:
        x, cache = carry
        x, cache, _ = jax.lax.fori_loop(0, shape[2], pixel, (x, network.row(params, cache, r), r))
        return x, cache

    cache = network.start(params, shape, *label)
    return jax.lax.fori_loop(0, shape[1], row, (jnp.zeros(shape), cache))[0]


def _partly(value: Float[Array, "b c"], colour: int) -> Float[Array, "b c"]:
    """Colours up to `colour`, centred; the rest are not looked at."""
    return centre(value).at[:, colour + 1 :].set(0)


def make_sample(
    network: Any, likelihood: Likelihood, shape: Sequence[int], *, classes: int = 0
) -> Callable[..., Array]:
    """`(params, state, key, num, label=None, **options) -> images [num, *shape]` of a `PixelNetwork`.

    It draws by the network's cache, if there is one, with the `options` of `sample`. A network that is told one of
    `classes` draws one `label` for all, or all classes in turn.
    """

    def told(num: int, label: Any) -> tuple[Array, ...]:
        chosen = jnp.arange(num) % max(classes, 1) if label is None else jnp.full(num, label)
        return (chosen,) if classes else ()

    @functools.partial(jax.jit, static_argnums=3)
    def cached(params: Params, state: State, key: Key, num: int, label: Any = None, **options: Any) -> Array:
        return sample(key, network, likelihood, params, (num, *shape), *told(num, label), **options)

    def naive(params: Params, state: State, key: Key, num: int, label: Any = None, **options: Any) -> Array:
        whole = (num, *shape)
        return sample_naive(key, network.model, likelihood, params, state, whole, *told(num, label), **options)

    return naive if network.pixel is None else cached


def completions(
    network: Incremental,
    likelihood: Likelihood,
    params: Params,
    x: Float[Array, "b h w c"],
    *label: Array,
    count: int = 3,
) -> tuple[Float[Array, "b h w c"], list[Float[Array, "b h w c"]]]:
    """Images whose lower half is grey, and `count` completions of their upper half, drawn with the keys 0, 1, …"""
    count = whole(count, "completions: count")
    height, width = x.shape[1:3]
    upper = jnp.broadcast_to(jnp.arange(height)[:, None] < height // 2, (height, width))

    @jax.jit
    def complete(key: Key) -> Array:
        return sample(key, network, likelihood, params, x.shape, *label, known=x, where=upper)

    return jnp.where(upper[..., None], x, 0.5), [complete(jax.random.key(i)) for i in range(count)]
