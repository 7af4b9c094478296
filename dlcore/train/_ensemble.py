"""Bagging: models trained at once on bootstrap samples, and what their average gains (lecture 12.1–12.3, 12.8)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dlcore.backend import on_cpu
from dlcore.nn import convolves
from dlcore.precision import matmul
from dlcore.tree import stacked, unstacked
from dlcore.types import Key, Model, Params, State


def bootstrap_rows(key: Key, size: int, members: int) -> Int[Array, "k n"]:
    """For every member `size` row numbers drawn with replacement; about 1/e of the rows are in none of its draws.

    Raises `ValueError` unless both numbers are positive.
    """
    if size < 1 or members < 1:
        raise ValueError(f"bootstrap_rows: size and members must be positive, got {size} and {members}")
    return jax.random.randint(key, (members, size), 0, size)


def bootstrap_counts(key: Key, size: int, members: int) -> Int[Array, "k n"]:
    """How often each row is in each bootstrap sample: training with these weights is training on the sample."""
    rows = bootstrap_rows(key, size, members)
    return jax.vmap(lambda rows: jnp.zeros(size, jnp.int32).at[rows].add(1))(rows)


def ensemble(model: Model, members: int) -> Model:
    """`members` copies of a model, started apart: [b, …] to [k, b, …]. Leaves lie in `stacked`, members first.

    One `vmap`, so that all train at once; split the first axis over devices to train them side by side. Every member
    draws with a key of its own. On CPU members that convolve follow each other in one program instead. What looks at
    all leaves together, such as a clip by the global norm, sees all members as one model.
    """
    if members < 1:
        raise ValueError(f"ensemble: members must be at least 1, got {members}")

    def init(key: Key, *inputs: Any) -> tuple[Params, State]:
        params, state = jax.vmap(lambda key: model.init(key, *inputs))(jax.random.split(key, members))
        return stacked(params), stacked(state)

    def apply(params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None) -> Any:
        def one(params: Params, state: State, key: Key | None, *inputs: Any) -> Any:
            return model.apply(params, state, *inputs, train=train, key=key)

        own, keys = (unstacked(params), unstacked(state)), None if key is None else jax.random.split(key, members)
        axes = (0, 0, None if key is None else 0)
        if not on_cpu():
            out, new = jax.vmap(one, in_axes=(*axes, *(None for _ in inputs)))(*own, keys, *inputs)
        elif convolves(jax.make_jaxpr(one)(member(params, 0), member(state, 0), key, *inputs)):
            # XLA's grouped convolutions take ten times as long on CPU.
            keys = [None] * members if keys is None else keys
            outputs = [one(*own, key, *inputs) for own, key in zip(_unstack(own, members), keys, strict=True)]
            out, new = jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)
        else:
            # Inputs for every member make one batched matrix product, which reads the stacked kernels as they lie.
            inputs = jax.tree.map(lambda x: jnp.broadcast_to(x, (members, *x.shape)), inputs)
            out, new = jax.vmap(one, in_axes=(*axes, *(0 for _ in inputs)))(*own, keys, *inputs)
        return out, stacked(new)

    return Model(init, apply, "ensemble")


def _unstack(tree: Any, members: int) -> list[Any]:
    """One tree per member; the transpose is one concatenation per leaf."""
    leaves, structure = jax.tree.flatten(tree)
    parts = [[jnp.squeeze(part, 0) for part in jax.lax.split(leaf, (1,) * members)] for leaf in leaves]
    return [structure.unflatten(own) for own in zip(*parts, strict=True)]


def member(tree: Any, index: int) -> Any:
    """The params or state of one member, from those of its ensemble."""
    return jax.tree.map(lambda leaf: leaf[index], unstacked(tree))


def average_probabilities(logits: Float[Array, "k *b c"]) -> Float[Array, "*b c"]:
    """log (1/k) Σ_i softmax(logits_i): log-probabilities of the average of the members' predictions."""
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))


class ErrorModel(NamedTuple):
    """Second moments of the errors ε_i of k members, and what they say of the error of the average."""

    v: Float[Array, ""]
    """E[ε_i²], over members and examples."""
    c: Float[Array, ""]
    """E[ε_i ε_j] for i ≠ j; v for identical members, 0 for independent ones."""
    predicted: Float[Array, ""]
    """v/k + (k − 1) c/k."""
    measured: Float[Array, ""]
    """E[((1/k) Σ_i ε_i)²], which is the same number."""


def error_model(errors: Float[Array, "k *b"]) -> ErrorModel:
    """v, c and the squared error of the average, from the errors of k members on the same examples.

    Raises `ValueError` for fewer than two members.
    """
    k = len(errors)
    if k < 2:
        raise ValueError("error_model: needs the errors of two members or more")
    flat = errors.reshape(k, -1)
    moments = matmul(flat, flat.T) / flat.shape[1]
    v = jnp.trace(moments) / k
    c = (moments.sum() - jnp.trace(moments)) / (k * (k - 1))
    return ErrorModel(v, c, v / k + (k - 1) * c / k, jnp.square(flat.mean(0)).mean())
