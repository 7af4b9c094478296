"""Embedding of integers as vectors."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from dlcore.nn._dtypes import widely
from dlcore.nn.init import Initializer, normal
from dlcore.setting import Size, whole
from dlcore.types import Input, Key, Model, Params, State


def embedding(ids: Integer[Array, "*b"], table: Float[Array, "n d"]) -> Float[Array, "*b d"]:
    """Row `ids` of the table. An id outside 0…n−1 gives NaN, so that it cannot go unnoticed under jit.

    Ids are integers of any width. Raises `ValueError` for ids that are not.
    """
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(f"embedding: ids must be integers, got {ids.dtype}")
    # Eight bits could not tell a row beyond the table from one of its rows.
    ids = ids.astype(jnp.promote_types(ids.dtype, jnp.int32))
    rows = jnp.where(ids < 0, table.shape[0], ids)
    return widely(lambda table: jnp.take(table, rows, axis=0, mode="fill", fill_value=jnp.nan), table)


def Embedding(size: Size, features: Size, *, table_init: Initializer = normal(1.0)) -> Model:  # noqa: B008
    """A learned table [size, features], param `embedding`, looked up by id. Raises `ValueError` for an empty table."""
    size, features = whole(size, "Embedding: size"), whole(features, "Embedding: features")

    def init(key: Key, ids: Input) -> tuple[Params, State]:
        return {"embedding": table_init(key, (size, features))}, {}

    def apply(
        params: Params, state: State, ids: Integer[Array, "*b"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "*b d"], State]:
        return embedding(ids, params["embedding"]), state

    return Model(init, apply, "embedding")
