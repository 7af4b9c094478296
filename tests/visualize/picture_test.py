"""Images found by descent: what is free in them, activation maximisation and feature inversion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import Activation, Conv, Dense, Flatten, GlobalAvgPool, serial
from dlcore.visualize import Picture, channel, descend, distance, feature_maps, invert, maximize, total_variation

NET = serial(body=serial(Conv(4, 3), Activation("silu")), pool=GlobalAvgPool(), head=Dense(3))
SHAPE = (6, 5, 2)
PARAMS, STATE = NET.init(jax.random.key(1), jnp.zeros((1, *SHAPE)))


def standard(images):
    return 2 * images - 1


def test_a_picture_by_its_spectrum_is_the_sum_of_its_waves():
    code = np.random.default_rng(0).normal(size=(2, 6, 3, 1)).astype(np.float32)
    weight = lambda i, j: np.sqrt(30) / max(np.hypot(np.fft.fftfreq(6)[i], np.fft.rfftfreq(5)[j]), 1 / 6)  # noqa: E731
    y, x = np.mgrid[:6, :5]
    total = np.zeros((6, 5))
    for i in range(6):
        for j in range(3):
            wave = np.exp(2j * np.pi * (i * y / 6 + j * x / 5))
            # The waves from j = 1 on stand for those of the opposite sign as well; of j = 0 the real part remains.
            total += (2 if j else 1) * ((code[0, i, j, 0] + 1j * code[1, i, j, 0]) * weight(i, j) * wave).real / 30
    found = Picture((6, 5, 1)).render(jnp.asarray(code)[None])[0, ..., 0]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-total)), rtol=1e-4)


@pytest.mark.parametrize("fourier", [True, False])
def test_pictures_start_grey_and_alike(fourier):
    picture = Picture((6, 5, 2), fourier=fourier)
    images = picture.render(picture.init(jax.random.key(0), 3))
    assert images.shape == (3, 6, 5, 2) and (images[0] == images[2]).all()
    np.testing.assert_allclose(images, 0.5, atol=0.2)


def test_total_variation_by_loops():
    images = np.random.default_rng(1).random((2, 3, 4, 2)).astype(np.float32)
    below = [np.mean([abs(image[i + 1] - image[i]) for i in range(2)]) for image in images]
    right = [np.abs(image[:, 1:] - image[:, :-1]).mean() for image in images]
    np.testing.assert_allclose(total_variation(jnp.asarray(images)), np.add(below, right), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["", "body"])
def test_images_are_found_that_the_network_answers_to(path):
    targets = jnp.array([0, 2])
    options = {"picture": Picture(SHAPE), "key": jax.random.key(0), "prepare": standard, "path": path}
    found = maximize(NET, PARAMS, STATE, targets, **options, steps=40, learning_rate=0.1, jitter=1)
    noise = standard(jax.random.uniform(jax.random.key(5), (64, *SHAPE)))
    other = feature_maps(NET, PARAMS, STATE, noise, "body").mean((1, 2)) if path else NET.apply(PARAMS, STATE, noise)[0]
    assert (found.scores > other[:, targets].max(0)).all()
    assert found.images.min() >= 0 and found.images.max() <= 1
    outputs = NET.apply(PARAMS, STATE, standard(found.images))[0]
    if not path:
        np.testing.assert_allclose(found.scores, outputs[jnp.arange(2), targets], rtol=1e-4)
    alone = maximize(NET, PARAMS, STATE, targets[1:], **options, steps=40, learning_rate=0.1, jitter=1)
    np.testing.assert_allclose(found.images[1:], alone.images, atol=2e-3)


def test_total_variation_has_its_price():
    options = {"picture": Picture(SHAPE, fourier=False), "key": jax.random.key(0), "steps": 40, "jitter": 0}
    target = jnp.array([1])
    rough, smooth = (maximize(NET, PARAMS, STATE, target, **options, variation=price) for price in (0.0, 2.0))
    assert total_variation(smooth.images)[0] < 0.5 * total_variation(rough.images)[0]


def test_channel_is_the_mean_over_places():
    outputs = jax.random.normal(jax.random.key(0), (2, 3, 4, 5))
    expected = np.asarray(outputs).mean((1, 2))[np.arange(2), [4, 1]]
    np.testing.assert_allclose(channel(outputs, jnp.array([4, 1])), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_what_a_layer_keeps_is_found_again():
    images = jax.random.uniform(jax.random.key(3), (2, *SHAPE))
    model = serial(flat=Flatten(), layer=Dense(60))
    params, state = model.init(jax.random.key(1), images)
    features = feature_maps(model, params, state, standard(images), "layer")
    options = {"picture": Picture(SHAPE, fourier=False), "key": jax.random.key(0), "prepare": standard}
    found = invert(model, params, state, features, "layer", **options, steps=300, variation=0.0)
    assert (distance(model, params, state, features, "layer", found, prepare=standard) < 1e-3).all()
    alone = invert(model, params, state, features[1:], "layer", **options, steps=300, variation=0.0)
    np.testing.assert_allclose(found[1:], alone, atol=5e-3)


def test_distance_by_hand():
    model = serial(a=Dense(2, bias=False), b=Dense(1))
    params = {"a": {"kernel": jnp.eye(2)}, "b": {"kernel": jnp.ones((2, 1)), "bias": jnp.zeros(1)}}
    found = distance(model, params, {}, jnp.array([[3.0, 4.0]]), "a", jnp.array([[3.0, 3.0]]))
    np.testing.assert_allclose(found, [1 / 25], rtol=1e-6)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="a side of the shape"):
        Picture((3, 0, 1))
    cost = lambda given, images: images.sum((1, 2, 3))  # noqa: E731
    options = {"key": jax.random.key(0), "learning_rate": 0.1, "variation": 0.0}
    for num, steps, jitter, name in ((0, 1, 0, "images"), (1, 0, 0, "steps"), (1, 1, 5, "jitter")):
        with pytest.raises(ValueError, match=f"^{name} must be"):
            descend(cost, {}, Picture(SHAPE), num, steps=steps, jitter=jitter, **options)
    with pytest.raises(ValueError, match="did you mean 'body'"):
        maximize(NET, PARAMS, STATE, jnp.array([0]), picture=Picture(SHAPE), key=jax.random.key(0), path="bodi")
    with pytest.raises(ValueError, match="shapes must be equal"):
        invert(NET, PARAMS, STATE, jnp.ones((1, 3)), "body", picture=Picture(SHAPE), key=jax.random.key(0))
