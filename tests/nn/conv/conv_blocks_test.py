"""The convolution by blocks against the one of XLA, with its derivatives of second order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import BlockConv, Conv, conv, conv_by_blocks


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.sampled
@pytest.mark.parametrize("padding", ["valid", "zero", "mirror", "periodic", 1, ((2, 0), (1, 2))], ids=str)
@pytest.mark.parametrize(
    ("space", "window", "stride"), [((7, 6), (4, 4), 2), ((8, 9), (6, 2), (3, 1)), ((5, 4), (2, 2), 1)]
)
def test_equals_the_convolution(space, window, stride, padding):
    x, kernel = normal(2, *space, 3), normal(*window, 3, 4, seed=1)
    expected = conv(x, kernel, stride=stride, padding=padding)
    np.testing.assert_allclose(conv_by_blocks(x, kernel, stride, padding), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("axes", [1, 3])
def test_one_and_three_axes(axes):
    x, kernel = normal(2, *(6,) * axes, 2), normal(*(4,) * axes, 2, 3, seed=1)
    np.testing.assert_allclose(conv_by_blocks(x, kernel, 2), conv(x, kernel, stride=2), rtol=1e-10, atol=1e-12)


def test_an_accelerator_convolves_plainly(monkeypatch):
    x, kernel = normal(2, 8, 8, 3), normal(4, 4, 3, 5, seed=1)
    program = lambda: str(jax.make_jaxpr(lambda x, k: conv_by_blocks(x, k, 2))(x, kernel))  # noqa: E731
    assert "conv_general_dilated" not in program() and "dot_general" in program()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert "conv_general_dilated" in program() and "dot_general" not in program()


@pytest.mark.slow
def test_gradient_of_a_gradient_penalty():
    x, kernel = normal(2, 6, 6, 2), normal(4, 4, 2, 3, seed=1)

    def penalty(convolution, kernel):
        slope = jax.grad(lambda x: jnp.tanh(convolution(x, kernel)).sum())(x)
        return jnp.square(slope).sum()

    blocks, direct = (
        jax.grad(lambda k, f=f: penalty(f, k))(kernel)
        for f in (lambda x, k: conv_by_blocks(x, k, 2), lambda x, k: conv(x, k, stride=2))
    )
    np.testing.assert_allclose(blocks, direct, rtol=1e-9)


def test_layer_has_the_params_of_conv():
    x = jnp.asarray(normal(2, 6, 6, 2), jnp.float32)
    block, direct = BlockConv(3, 4, stride=2), Conv(3, 4, stride=2)
    params, _ = block.init(jax.random.key(0), x)
    jax.tree.map(np.testing.assert_array_equal, params, direct.init(jax.random.key(0), x)[0])
    params = {**params, "bias": jnp.ones(3, jnp.float32)}
    np.testing.assert_allclose(block.apply(params, {}, x)[0], direct.apply(params, {}, x)[0], rtol=1e-5, atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="whole number of strides"):
        conv_by_blocks(normal(1, 5, 5, 1), normal(3, 3, 1, 1), 2)
    with pytest.raises(ValueError, match="does not divide window"):
        BlockConv(3, 3, stride=2)
