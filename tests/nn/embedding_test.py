"""Embeddings: ids of every integer dtype, and nothing else (lecture 8)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import Embedding, embedding


@pytest.mark.parametrize("ids", ["int8", "uint8", "int16", "uint32", "int32"])
def test_embeddings_of_any_integer_dtype(ids):
    # A table larger than eight bits count: "one row past the end" must not become a row of it.
    table = jnp.arange(300.0)[:, None]
    found = embedding(jnp.asarray([0, 7, 100], ids), table)
    np.testing.assert_array_equal(found[:, 0], [0, 7, 100])
    if not ids.startswith("u"):
        assert np.isnan(embedding(jnp.asarray([-1, -100], ids), table)).all()
    assert embedding(jnp.asarray([1], ids), table.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_embeddings_of_what_does_not_count_are_refused(dtype):
    with pytest.raises(ValueError, match=f"ids must be integers, got {dtype}"):
        embedding.__wrapped__(jnp.ones(3, dtype), jnp.ones((4, 2)))
    params, _ = Embedding(4, 2).init(jax.random.key(0), jnp.ones(3, "int32"))
    assert params["embedding"].dtype == jnp.float32
