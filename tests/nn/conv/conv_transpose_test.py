"""A transposed convolution is the adjoint of the convolution, whatever its stride, padding, dilation and groups."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import ConvTranspose, conv, conv_transpose, transposed_space

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


@pytest.mark.slow
@pytest.mark.parametrize(("space", "window", "stride", "dilation", "groups", "channels"), CASES)
def test_inner_products_agree(space, window, stride, dilation, groups, channels):
    kernel, x = normal(*window, channels // groups, 6), normal(2, *space, channels, seed=1)
    options = [{"stride": stride, "padding": p, "dilation": dilation, "groups": groups} for p in PADDINGS]
    forward = lambda x, kernel: [conv(x, kernel, **o) for o in options]  # noqa: E731
    ys = [normal(*y.shape, seed=2) for y in jax.eval_shape(forward, x, kernel)]

    @jax.jit
    def both(x, kernel, ys):
        back = [conv_transpose(y, kernel, space=space, **o) for y, o in zip(ys, options, strict=True)]
        return forward(x, kernel), back

    for padding, y, ahead, back in zip(PADDINGS, ys, *both(x, kernel, ys), strict=True):
        assert back.shape == x.shape
        np.testing.assert_allclose(np.vdot(ahead, y), np.vdot(x, back), rtol=1e-12, err_msg=f"padding={padding}")


@pytest.mark.parametrize("axes", [1, 3])
def test_one_and_three_axes(axes):
    kernel, x = normal(*(4,) * axes, 2, 3), normal(2, *(6,) * axes, 2, seed=1)
    y = normal(2, *(3,) * axes, 3, seed=2)
    both = jax.jit(lambda x, y: (conv(x, kernel, stride=2), conv_transpose(y, kernel, stride=2)))
    forward, back = both(x, y)
    np.testing.assert_allclose(np.vdot(forward, y), np.vdot(x, back), rtol=1e-12)


@pytest.mark.sampled
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


@pytest.mark.slow
@pytest.mark.parametrize("window", [3, 4])
def test_gradients_are_those_of_the_bilinear_form(window):
    """<g, Aᵀy> = <A g, y>, so that its gradients are A g in y and that of the convolution of g in the kernel."""
    y, kernel = normal(2, 3, 3, 4), normal(window, window, 2, 4, seed=1)
    transpose = lambda y, k: conv_transpose(y, k, stride=2)  # noqa: E731
    g = normal(*jax.eval_shape(transpose, y, kernel).shape, seed=2)

    @jax.jit
    def found_and_expected(y, kernel, g):
        _, pull = jax.vjp(transpose, y, kernel)
        ahead, pull_kernel = jax.vjp(lambda k: conv(g, k, stride=2), kernel)
        return pull(g), (ahead, *pull_kernel(y))

    for found, expected in zip(*found_and_expected(y, kernel, g), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize(("window", "stride", "dilation"), [((3, 3), 2, 1), ((4, 3), (3, 1), (1, 2))])
def test_usual_size_is_one_that_the_convolution_takes_back(padding, window, stride, dilation):
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    space = transposed_space((5, 6), window, **options)
    x, kernel = jax.ShapeDtypeStruct((1, *space, 1), float), jax.ShapeDtypeStruct((*window, 1, 1), float)
    assert jax.eval_shape(lambda x, k: conv(x, k, **options), x, kernel).shape == (1, 5, 6, 1)
    if isinstance(padding, str) and padding != "valid":
        assert space == tuple(np.multiply((5, 6), stride))


@pytest.mark.slow
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
