"""Encoders and decoders against their formulas written out (lecture 19, 24)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from dlcore.nn import summarize


def parameters(model, *shape):
    return summarize(model, jax.ShapeDtypeStruct((1, *shape), jnp.float32))[0].parameters


def test_a_gated_layer_multiplies_by_a_sigmoid():
    model, x = MLPEncoder((3,), 2), jax.random.normal(jax.random.key(1), (4, 2, 2, 1))
    params, state = jax.jit(model.init)(jax.random.key(0), x)
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 2]
    assert sorted(kernel.shape for kernel in kernels) == [(3, 2), (4, 6)]
    first = next(kernel for kernel in kernels if kernel.shape == (4, 6))
    last = next(kernel for kernel in kernels if kernel.shape == (3, 2))
    # The biases start at 0.
    a, b = np.split(np.asarray(x).reshape(4, 4) @ np.asarray(first), 2, axis=1)
    expected = (a / (1 + np.exp(-b))) @ np.asarray(last)
    np.testing.assert_allclose(model.apply(params, state, x)[0], expected, rtol=1e-4, atol=1e-6)


def test_parameters_of_the_published_gated_network():
    # 784-300-300 gated, then means and log-variances of 40 units: Tomczak & Welling 2018, section 5.
    hidden = 2 * (784 * 300 + 300) + 2 * (300 * 300 + 300)
    assert parameters(MLPEncoder((300, 300), 80), 28, 28, 1) == hidden + 300 * 80 + 80
    hidden = 2 * (40 * 300 + 300) + 2 * (300 * 300 + 300)
    assert parameters(MLPDecoder((300, 300), (28, 28, 1)), 40) == hidden + 300 * 784 + 784


@pytest.mark.parametrize("size", [7, 8])
def test_a_convolutional_encoder_halves_and_a_decoder_doubles(size):
    half = -(-size // 2)
    convolution, dense = 9 * 2 * 4 + 4, half * half * 4 * 5 + 5 + 5 * 3 + 3
    assert parameters(ConvEncoder((4,), 3, hidden=5), size, size, 2) == convolution + dense
    shape = jax.eval_shape(
        lambda key, z: (lambda m: m.apply(*m.init(key, z), z)[0])(ConvDecoder((6, 4), (4 * size, 4, 2), hidden=5)),
        jax.random.key(0),
        jnp.zeros((2, 3)),
    ).shape
    assert shape == (2, 4 * size, 4, 2)


def test_sides_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="28×30 cannot be halved 2 times; use fewer channels"):
        ConvDecoder((8, 4), (28, 30, 1))
