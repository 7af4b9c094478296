"""The small networks of `classify`: parameters counted by hand, and what they refuse (lecture 8.3, 14)."""

import jax
import jax.numpy as jnp
import pytest

from dlcore.networks import CNN, MLP
from dlcore.nn import summarize


def parameters(model, *shape):
    return summarize(model, jax.ShapeDtypeStruct((1, *shape), jnp.float32))[0].parameters


def test_parameters_of_the_cnn():
    stages = 9 * 1 * 32 + 2 * 32 + 9 * 32 * 64 + 2 * 64
    assert parameters(CNN((32, 64), 10, hidden=128), 28, 28, 1) == stages + 7 * 7 * 64 * 128 + 128 + 128 * 10 + 10
    assert parameters(CNN((32, 64), 10), 28, 28, 1) == stages + 64 * 10 + 10, "global averages"


def test_parameters_of_the_mlp_are_the_same_with_dropout():
    expected = 784 * 512 + 512 + 512 * 256 + 256 + 256 * 10 + 10
    assert parameters(MLP((512, 256), 10, dropout=0.3), 28, 28, 1) == expected
    assert parameters(MLP((), 10), 28, 28, 1) == 7850, "logistic regression"


def test_another_pooling_is_refused():
    with pytest.raises(ValueError, match="pool must be max or avg, got 'mean'"):
        CNN((4,), 3, pool="mean")
