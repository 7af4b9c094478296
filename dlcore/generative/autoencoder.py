"""Autoencoders r = g(f(x)): under- and over-complete, tied, sparse, contractive and denoising (lecture 19, 21).

The loss compares with the clean x whatever the encoder saw. With a `Likelihood` of `dlcore.generative.decoder` as loss
it is −log p(x | h) in nats.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.check import in_range, is_zero
from dlcore.generative.code_penalty import contraction
from dlcore.nn import compose
from dlcore.operands import marks, safe
from dlcore.setting import Number
from dlcore.tree import merge, named_leaves, partition
from dlcore.types import Aux, Batch, Input, Key, Mean, Model, Objective, Params, State

UNTIED: Mapping[str, str] = MappingProxyType({})


class Autoencoder(NamedTuple):
    """Two networks; params and state have the branches `encoder` and `decoder`."""

    encoder: Model
    """f: x [b, ...] to the code h [b, n]."""
    decoder: Model
    """g: the code to outputs, of the shape of x unless the loss takes others."""
    ties: Mapping[str, str] = UNTIED
    """Kernels [n, m] that the decoder shares, as paths: `{"dense_0/kernel": "dense_1/kernel"}` makes the first of the
    decoder the transpose of the second of the encoder. There is one leaf, the encoder's, with one gradient."""


def init(key: Key, autoencoder: Autoencoder, x: Input) -> tuple[Params, State]:
    """Params and state of both networks for x [b, ...]; what is tied is not in the decoder's branch.

    A network that starts from data sees x, or the codes of x.

    Raises `ValueError` for ties that name no leaf, or leaves that are no transposes of each other.
    """
    parts = {"encoder": _keyed(autoencoder.encoder, key, 0), "decoder": _keyed(autoencoder.decoder, key, 1)}
    params, state = compose(lambda call, x: call("decoder", call("encoder", x)), **parts).init(key, x)
    encoder, decoder = params.get("encoder", {}), params.get("decoder", {})
    if autoencoder.ties:
        _check_ties(autoencoder.ties, dict(named_leaves(encoder)), dict(named_leaves(decoder)))
        decoder = partition(decoder, tuple(autoencoder.ties))[1]
    return {"encoder": encoder, "decoder": decoder}, {"encoder": {}, "decoder": {}, **state}


def _keyed(part: Model, key: Key, index: int) -> Model:
    return part._replace(init=lambda _, *inputs: part.init(jax.random.fold_in(key, index), *inputs))


def _check_ties(ties: Mapping[str, str], encoder: Mapping[str, Any], decoder: Mapping[str, Any]) -> None:
    for own, other in ties.items():
        for path, there, name in ((own, decoder, "decoder"), (other, encoder, "encoder")):
            if path not in there:
                raise ValueError(f"ties: the {name} has no leaf {path!r}, but {', '.join(sorted(there))}")
        shapes = decoder[own].shape, encoder[other].shape
        if len(shapes[0]) != 2 or shapes[0] != shapes[1][::-1]:
            raise ValueError(f"ties: decoder {own} {shapes[0]} is not the transpose of encoder {other} {shapes[1]}")


def encode(
    autoencoder: Autoencoder,
    params: Params,
    state: State,
    x: Float[Array, "b ..."],
    *,
    train: bool = False,
    key: Key | None = None,
) -> tuple[Float[Array, "b ..."], State]:
    """The code h = f(x), and the new state."""
    h, new = autoencoder.encoder.apply(params["encoder"], state["encoder"], x, train=train, key=key)
    return h, {**state, "encoder": new}


def decode(
    autoencoder: Autoencoder,
    params: Params,
    state: State,
    h: Float[Array, "b ..."],
    *,
    train: bool = False,
    key: Key | None = None,
) -> tuple[Float[Array, "b ..."], State]:
    """The outputs g(h), and the new state."""
    outputs, new = autoencoder.decoder.apply(
        decoder_params(autoencoder, params), state["decoder"], h, train=train, key=key
    )
    return outputs, {**state, "decoder": new}


def decoder_params(autoencoder: Autoencoder, params: Params) -> Params:
    """All params of the decoder, those that it shares with the encoder transposed."""
    leaves, whole = dict(named_leaves(params["encoder"])) if autoencoder.ties else {}, params["decoder"]
    for own, other in autoencoder.ties.items():
        leaf: Any = leaves[other].T
        for name in reversed(own.split("/")):
            leaf = {name: leaf}
        whole = merge(whole, leaf)
    return whole


def reconstruct(autoencoder: Autoencoder, params: Params, state: State, x: Float[Array, "b ..."]) -> Array:
    """The outputs g(f(x)), in inference."""
    return decode(autoencoder, params, state, encode(autoencoder, params, state, x)[0])[0]


def reconstruction(
    autoencoder: Autoencoder,
    loss: Callable[[Any, Array], Array],
    *,
    corrupt: Callable[[Key, Array], Array] | None = None,
    code_penalty: Callable[[Array, Array | None], Float[Array, ""]] | None = None,
    contractive: Number = 0.0,
    penalty: Callable[[Params], Float[Array, ""]] | None = None,
) -> Objective:
    """L = mean over examples of Σ loss(g(f(x̃)), x), plus penalties; x is `batch["image"]`.

    `loss(outputs, x)` is not reduced: `squared_error`, `absolute_error`, `sigmoid_cross_entropy` of logits with pixels
    in [0, 1], or the `nll` of a decoder likelihood; its values are summed over an example. x̃ is `corrupt(key, x)` in
    training and x otherwise (Vincent et al. 2010): the target is the clean x in any case.

    `code_penalty(h, where)` is a number for the codes of the batch, such as β `kl_sparsity(h, ρ, where=where)`;
    `contractive` weighs the mean of ‖∂h/∂x̃‖_F² (`contraction`), with the encoder as it is in inference; `penalty` is
    one on the params. Metrics are the reconstruction `loss`, `code_penalty` and `contraction` where they are asked for.

    Raises `ValueError` for a loss without a batch axis, a negative weight, and corruption without a key.
    """
    in_range("reconstruction", "contractive", contractive, lambda weight: weight >= 0, "not be negative")

    def objective(
        params: Params, state: State, batch: Batch, *, key: Key | None, train: bool, step: Array | None = None
    ) -> tuple[Float[Array, ""], Aux]:
        where = batch.get("where")
        x = safe(batch["image"], marks("reconstruction", where, batch["image"].shape, prefix=True))
        keys = [None] * 3 if key is None else list(jax.random.split(key, 3))
        seen = x
        if train and corrupt is not None:
            if key is None:
                raise ValueError("reconstruction: corruption needs a key; pass key=jax.random.key(...)")
            seen = corrupt(keys[0], x)
        h, new = encode(autoencoder, params, state, seen, train=train, key=keys[1])
        outputs, new = decode(autoencoder, params, new, h, train=train, key=keys[2])
        metrics = {"loss": Mean.of(_per_example(loss(outputs, x), len(x)), where)}
        total = _ratio(metrics["loss"])
        if code_penalty is not None:
            value = code_penalty(h, where)
            metrics["code_penalty"] = Mean(value, jnp.int32(1))
            total += value
        if not is_zero(contractive):
            squares = contraction(lambda x: encode(autoencoder, params, state, x)[0], seen)
            metrics["contraction"] = Mean.of(squares, where)
            total += contractive * _ratio(metrics["contraction"])
        total = total if penalty is None else total + penalty(params)
        return total, Aux(new, metrics, None if where is None else jnp.asarray(metrics["loss"].count, jnp.float32))

    return objective


def _per_example(values: Array, size: int) -> Float[Array, " b"]:
    if not jnp.ndim(values) or len(values) != size:
        raise ValueError(
            f"reconstruction: the loss gives shape {jnp.shape(values)} for {size} examples; it must not be reduced"
        )
    return values.reshape(size, -1).sum(-1)


def _ratio(mean: Mean) -> Float[Array, ""]:
    """total / count, 0 where nothing counts."""
    return mean.total / jnp.maximum(mean.count, 1)
