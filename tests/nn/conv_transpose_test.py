"""A transposed convolution is the adjoint of the convolution, whatever its stride, padding, dilation and groups."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from dlcore.nn.conv import conv
from dlcore.nn.conv_transpose import ConvTranspose, conv_transpose, transposed_space

PADDINGS = ("valid", "zero", "mirror", "periodic", 1, ((2, 0), (1, 2)))
CASES = [
    ((7, 6), (3, 3), 2, 1, 2, 4),
    ((9, 8), (2, 3), (2, 1), (1, 2), 1, 1),
    ((8, 7), (3, 3), 1, 2, 1, 3),
    ((5, 4), (4, 4), 2, 1, 1, 1),
    ((8, 9), (6, 2), (3, 1), 1, 1, 3),
]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize(("space", "window", "stride", "dilation", "groups", "channels"), CASES)
def test_inner_products_agree(space, window, stride, dilation, groups, channels, padding):
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    kernel, x = normal(*window, channels // groups, 6), normal(2, *space, channels, seed=1)
    forward = conv(x, kernel, **options)
    y = normal(*forward.shape, seed=2)
    back = conv_transpose(y, kernel, space=space, **options)
    assert back.shape == x.shape
    np.testing.assert_allclose(jnp.vdot(forward, y), jnp.vdot(x, back), rtol=1e-12)


@pytest.mark.parametrize("axes", [1, 3])
def test_one_and_three_axes(axes):
    kernel, x = normal(*(4,) * axes, 2, 3), normal(2, *(6,) * axes, 2, seed=1)
    forward = conv(x, kernel, stride=2)
    y = normal(*forward.shape, seed=2)
    np.testing.assert_allclose(jnp.vdot(forward, y), jnp.vdot(x, conv_transpose(y, kernel, stride=2)), rtol=1e-12)


@pytest.mark.parametrize(("window", "stride", "padding"), [(4, 2, 1), (3, 2, 0), (5, 3, 2), (2, 2, 0)])
def test_against_a_loop_over_positions(window, stride, padding):
    y, kernel, bias = normal(2, 3, 4, 5), normal(window, window, 2, 5, seed=1), normal(2, seed=2)
    space = [(n - 1) * stride + window for n in (3, 4)]
    full = np.zeros((2, *space, 2))
    for p, q in itertools.product(range(3), range(4)):
        stamp = np.einsum("bo,klio->bkli", y[:, p, q], kernel)
        full[:, p * stride : p * stride + window, q * stride : q * stride + window] += stamp
    expected = full[:, padding : space[0] - padding, padding : space[1] - padding] + bias
    np.testing.assert_allclose(conv_transpose(y, kernel, bias, stride=stride, padding=padding), expected, rtol=1e-10)


@pytest.mark.parametrize("window", [3, 4])
def test_gradients_are_those_of_the_bilinear_form(window):
    """<g, Aᵀy> = <A g, y>, so that its gradients are A g in y and that of the convolution of g in the kernel."""
    y, kernel = normal(2, 3, 3, 4), normal(window, window, 2, 4, seed=1)
    out, pull = jax.vjp(lambda y, k: conv_transpose(y, k, stride=2), y, kernel)
    g = normal(*out.shape, seed=2)
    by_y, by_kernel = pull(g)
    np.testing.assert_allclose(by_y, conv(g, kernel, stride=2), rtol=1e-10)
    (expected,) = jax.vjp(lambda k: conv(g, k, stride=2), kernel)[1](y)
    np.testing.assert_allclose(by_kernel, expected, rtol=1e-10)
    check_grads(lambda *args: conv_transpose(*map(jnp.asarray, args), stride=2), (y, kernel), 2)


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize(("window", "stride", "dilation"), [((3, 3), 2, 1), ((4, 3), (3, 1), (1, 2))])
def test_usual_size_is_one_that_the_convolution_takes_back(padding, window, stride, dilation):
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    space = transposed_space((5, 6), window, **options)
    assert conv(normal(1, *space, 1), normal(*window, 1, 1), **options).shape == (1, 5, 6, 1)
    if isinstance(padding, str) and padding != "valid":
        assert space == tuple(np.multiply((5, 6), stride))


def test_layer_doubles_the_size_and_starts_like_a_dense_layer():
    x = jax.ShapeDtypeStruct((2, 5, 5, 8), jnp.float32)
    layer = ConvTranspose(6, 4, stride=2, groups=2)
    params, _ = layer.init(jax.random.key(0), x)
    assert params["kernel"].shape == (4, 4, 3, 8) and params["bias"].shape == (6,)
    assert np.std(params["kernel"]) == pytest.approx((4 * 4 * 8) ** -0.5, rel=0.1)
    assert layer.apply(params, {}, jnp.ones((2, 5, 5, 8), jnp.float32))[0].shape == (2, 10, 10, 6)


def test_errors_name_what_does_not_fit():
    y, kernel = normal(1, 3, 3, 2), normal(3, 3, 4, 2)
    with pytest.raises(ValueError, match=r"space=\(9, 9\) is taken to \(5, 5\).*use \(6, 6\)"):
        conv_transpose(y, kernel, stride=2, space=(9, 9))
    with pytest.raises(ValueError, match="does not fit a kernel"):
        conv_transpose(normal(1, 3, 2), kernel)
    with pytest.raises(ValueError, match="nothing is left"):
        conv_transpose(normal(1, 1, 1, 2), normal(1, 1, 4, 2), padding=1)
    with pytest.raises(ValueError, match="groups=3"):
        ConvTranspose(4, 3, groups=3)
    with pytest.raises(ValueError, match="does not divide the 5"):
        ConvTranspose(4, 3, groups=2).init(jax.random.key(0), y[..., :1].repeat(5, -1))
