"""Encoders and decoders against their formulas written out (lecture 19, 24)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import ConvDecoder, ConvEncoder, MapDecoder, MapEncoder, MLPDecoder, MLPEncoder, coders
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


@pytest.mark.slow
def test_a_map_of_codes_has_channels_at_each_place():
    # 4×4 patches of a 8×12 image: 2×3 places; a block of two 3×3 convolutions per width, 1×1 ones between widths.
    stem, block = 16 * 2 * 5 + 5, lambda w: 2 * (9 * w * w + w)
    body = block(5) + 5 * 6 + 6 + block(6)
    assert parameters(MapEncoder((5, 6), 7), 8, 12, 2) == stem + body + 6 * 7 + 7
    body = block(6) + 6 * 5 + 5 + block(5)
    decoder = MapDecoder((6, 5), 7, (8, 12, 2))
    assert parameters(decoder, 2 * 3 * 7) == 7 * 6 + 6 + body + 9 * 5 * 32 + 32


@pytest.mark.slow
def test_a_map_of_codes_sees_what_blocks_reach():
    # At first the last kernels of blocks are 0: a code depends on its own patch alone, as a matrix product.
    model, x = MapEncoder((5,), 3, patch=2), jax.random.normal(jax.random.key(1), (2, 4, 6, 1))
    params, state = jax.jit(model.init)(jax.random.key(0), x)
    patches = np.asarray(x).reshape(2, 2, 2, 3, 2, 1).transpose(0, 1, 3, 2, 4, 5).reshape(2, 2, 3, 4)
    h = patches @ np.asarray(params["conv_0"]["kernel"]).reshape(4, 5)
    expected = (h / (1 + np.exp(-h))) @ np.asarray(params["conv_1"]["kernel"]).reshape(5, 3)
    np.testing.assert_allclose(model.apply(params, state, x)[0], expected.reshape(2, -1), rtol=1e-4, atol=1e-6)
    # Trained, a block reaches two places in each direction, and no further.
    moved = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(2), leaf.shape), params)
    line = jax.random.normal(jax.random.key(3), (1, 2, 14, 1))
    jump = line.at[:, :, 0].add(1.0)
    codes = [np.asarray(model.apply(moved, state, image)[0]).reshape(7, 3) for image in (line, jump)]
    assert (codes[0] != codes[1]).any(1).tolist() == [True] * 3 + [False] * 4


def test_pairs_by_name_fit_images_of_any_sides():
    for name, options in {"mlp": {"keep": 2}, "conv": {}, "map": {"code": "sigmoid"}}.items():
        encoder, decoder = coders(name, (4,), 3, (7, 9, 1), **options)
        x = jnp.zeros((2, 7, 9, 1))

        def through(key, x, encoder=encoder, decoder=decoder):
            code = encoder.apply(*encoder.init(key, x), x)[0]
            return code, decoder.apply(*decoder.init(key, code), code)[0]

        code, image = jax.eval_shape(through, jax.random.key(0), x)
        assert code.shape == (2, 3 * 2 * 3 if name == "map" else 3) and image.shape == x.shape
    with pytest.raises(ValueError, match="keep=2 chooses among the units of a dense code"):
        coders("map", (4,), 3, (8, 8, 1), keep=2)
    with pytest.raises(ValueError, match="at least one block"):
        coders("map", (), 3, (8, 8, 1))
    with pytest.raises(ValueError, match="8×10 cannot be cut into patches of 4"):
        MapDecoder((4,), 3, (8, 10, 1))
