"""Embedding of integers as vectors."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dlcore.nn.init import Initializer, normal
from dlcore.types import Input, Key, Model, Params, State


def embedding(ids: Int[Array, "*b"], table: Float[Array, "n d"]) -> Float[Array, "*b d"]:
    """Row `ids` of the table. An id outside 0…n−1 gives NaN, so that it cannot go unnoticed under jit."""
    return jnp.take(table, jnp.where(ids < 0, table.shape[0], ids), axis=0, mode="fill", fill_value=jnp.nan)


def Embedding(size: int, features: int, *, table_init: Initializer = normal(1.0)) -> Model:  # noqa: B008
    """A learned table [size, features], param `embedding`, looked up by id. Raises `ValueError` for an empty table."""
    if size < 1 or features < 1:
        raise ValueError(f"Embedding: size and features must be at least 1, got {size} and {features}")

    def init(key: Key, ids: Input) -> tuple[Params, State]:
        return {"embedding": table_init(key, (size, features))}, {}

    def apply(
        params: Params, state: State, ids: Int[Array, "*b"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "*b d"], State]:
        return embedding(ids, params["embedding"]), state

    return Model(init, apply)
