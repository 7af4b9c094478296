"""Inference by windows: partition of unity, and the whole image where margins cover what outputs see (lecture 25)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.evaluation import sliding_window
from dlcore.nn import Activation, AvgPool, Conv, compose, padded, upsample

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "window", "overlap"),
    [((10, 10), 4, 0.5), ((10, 10), (4, 1), 0.25), ((5, 7), 8, 0.5), ((13, 9), 5, 0.0), ((6, 40), (6, 33), 0.9)],
)
def test_the_identity_gives_the_image_itself(shape, window, overlap):
    image = RNG.normal(size=(*shape, 2)).astype(np.float32)
    found = sliding_window(lambda x: x, image, window, overlap=overlap, batch=3)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, image, rtol=1e-6, atol=1e-6)


def test_predict_sees_one_shape_whatever_the_image():
    shapes = set()

    def predict(x):
        shapes.add(x.shape)
        return x

    for sides in ((9, 9), (30, 17), (3, 50)):
        sliding_window(predict, np.ones((*sides, 1), np.float32), 8, batch=4)
    assert shapes == {(4, 8, 8, 1)}


def test_weights_are_those_of_a_gaussian():
    """Two windows over a row of six, one of which says 1 and the other 0."""
    seen = iter([1.0, 0.0])
    image = np.zeros((1, 6, 1), np.float32)
    found = sliding_window(lambda x: np.full(x.shape, next(seen)), image, (1, 4), overlap=0.5, batch=1)[0, :, 0]
    bell = np.exp(-0.5 * ((np.arange(4) - 1.5) / 0.5) ** 2)
    shared = [bell[2] / (bell[2] + bell[0]), bell[3] / (bell[3] + bell[1])]
    np.testing.assert_allclose(found, [1, 1, *shared, 0, 0], atol=1e-6)


def network():
    """Convolutions of 3, a halving and a doubling: an output sees 7 pixels each way at most."""

    def forward(call, x):
        h = call("act", call("first", x))
        return call("last", jnp.concatenate([h, upsample(call("low", call("pool", h)))], -1))

    return compose(forward, first=Conv(4, 3), act=Activation("silu"), pool=AvgPool(2), low=Conv(4, 3), last=Conv(3, 3))


@pytest.mark.slow
@pytest.mark.parametrize("sides", [(32, 40), (29, 43)])
def test_windows_are_the_whole_where_margins_cover_what_is_seen(sides):
    model = padded(network(), 2)
    image = RNG.normal(size=(*sides, 1)).astype(np.float32)
    params, state = model.init(jax.random.key(0), jnp.zeros((1, 24, 24, 1)))
    predict = jax.jit(lambda x: model.apply(params, state, x)[0])
    whole = predict(image[None])[0]
    tiled = sliding_window(predict, image, 24, overlap=0.7, margin=8, multiple=2)
    np.testing.assert_allclose(tiled, whole, rtol=1e-6, atol=1e-6)
    # Without the margin the borders of windows show.
    assert np.abs(sliding_window(predict, image, 24, overlap=0.7, multiple=2) - whole).max() > 1e-5


def test_what_lies_in_a_margin_may_be_anything():
    def predict(x):
        found = np.array(x)
        found[:, :, [0, -1]] = np.nan
        return found

    image = RNG.normal(size=(4, 12, 1)).astype(np.float32)
    found = sliding_window(predict, image, (4, 6), overlap=0.5, margin=1)
    np.testing.assert_allclose(found[:, 1:-1], image[:, 1:-1], rtol=1e-6)


def test_bad_arguments_are_refused():
    image = np.zeros((20, 20, 1), np.float32)
    with pytest.raises(ValueError, match="overlap"):
        sliding_window(lambda x: x, image, 8, overlap=1.0)
    with pytest.raises(ValueError, match="leave gaps with margin=3; use at most 2"):
        sliding_window(lambda x: x, image, 8, overlap=0.5, margin=3)
    with pytest.raises(ValueError, match="multiple of 4"):
        sliding_window(lambda x: x, image, 6, multiple=4)
    with pytest.raises(ValueError, match="keep the sides"):
        sliding_window(lambda x: x[:, ::2], image, 8)
