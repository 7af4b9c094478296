"""Occlusion and RISE against brute loops over windows and masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import Activation, Dense, Flatten, serial
from dlcore.visualize import occlusion, random_mask, rise

NET = serial(Flatten(), Dense(5), Activation("silu"), Dense(3))
X = jax.random.normal(jax.random.key(0), (2, 5, 7, 2))
LABELS = jnp.array([2, 0])
PARAMS, STATE = NET.init(jax.random.key(1), X)
APPLY = jax.jit(lambda x: NET.apply(PARAMS, STATE, x)[0])


def score(image, label):
    return float(APPLY(jnp.asarray(image)[None])[0, label])


@pytest.mark.slow
@pytest.mark.parametrize(("window", "stride", "block"), [(3, 2, 1), (2, 1, 9), (4, 4, 100)])
def test_occlusion_is_the_loop_over_windows(window, stride, block):
    fill = np.array([[[0.3, -0.2]]], np.float32) * np.ones((5, 7, 1), np.float32)
    found = occlusion(NET, PARAMS, STATE, X, LABELS, window=window, stride=stride, fill=jnp.asarray(fill), block=block)
    for row in range(2):
        image, label = np.asarray(X[row]), int(LABELS[row])
        total, covered = np.zeros((5, 7)), np.zeros((5, 7))
        top = 0
        while True:
            left = 0
            while True:
                changed, place = image.copy(), (slice(top, top + window), slice(left, left + window))
                changed[place] = fill[place]
                total[place] += score(image, label) - score(changed, label)
                covered[place] += 1
                left += stride
                if left - stride + window >= 7:
                    break
            top += stride
            if top - stride + window >= 5:
                break
        np.testing.assert_allclose(found[row], total / covered, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 8, 100])
def test_rise_is_the_loop_over_masks(block):
    key, options = jax.random.key(4), {"grid": 3, "fraction": 0.4}
    found = rise(NET, PARAMS, STATE, X, LABELS, key=key, masks=9, **options, fill=0.5, block=block)
    for row in range(2):
        total = np.zeros((5, 7))
        for n in range(9):
            mask = np.asarray(random_mask(jax.random.fold_in(key, n), (5, 7), **options))
            seen = np.asarray(X[row]) * mask[..., None] + 0.5 * (1 - mask[..., None])
            total += score(seen, int(LABELS[row])) * mask
        np.testing.assert_allclose(found[row], total / (9 * 0.4), rtol=1e-4, atol=1e-5)


def test_masks_are_smooth_differ_and_show_their_share():
    masks = np.asarray(
        jax.vmap(lambda key: random_mask(key, (12, 15), 4, 0.3))(jax.random.split(jax.random.key(0), 400))
    )
    assert masks.shape == (400, 12, 15) and masks.min() >= 0 and masks.max() <= 1
    np.testing.assert_allclose(masks.mean(0), 0.3, atol=0.1)
    assert np.abs(np.diff(masks, axis=1)).max() < 0.5 and masks.std() > 0.2


@pytest.mark.slow
def test_a_map_of_one_pixel_finds_it():
    kernel = np.zeros((70, 1), np.float32)
    kernel[2 * (3 * 7 + 4)] = 2.0
    model, params = serial(Flatten(), Dense(1, bias=False)), {"dense_0": {"kernel": jnp.asarray(kernel)}}
    x, zero = jnp.ones((1, 5, 7, 2)), jnp.array([0])
    found = np.asarray(occlusion(model, params, {}, x, zero, window=1)[0])
    assert found[3, 4] == 2 and found.sum() == 2
    seen = np.asarray(rise(model, params, {}, x, zero, key=jax.random.key(0), masks=300, grid=4)[0])
    assert np.unravel_index(seen.argmax(), seen.shape) == (3, 4)


def test_windows_and_masks_that_cannot_be_are_refused():
    for window, stride in ((6, 1), (2, 3)):
        with pytest.raises(ValueError, match=f"stride={stride} and window={window}"):
            occlusion(NET, PARAMS, STATE, X, LABELS, window=window, stride=stride)
    with pytest.raises(ValueError, match=r"fraction must lie in \(0, 1\), got 1\.0"):
        rise(NET, PARAMS, STATE, X, LABELS, key=jax.random.key(0), fraction=1.0)
    with pytest.raises(ValueError, match="grid=6"):
        rise(NET, PARAMS, STATE, X, LABELS, key=jax.random.key(0), grid=6)
    with pytest.raises(ValueError, match="fill has shape"):
        occlusion(NET, PARAMS, STATE, X, LABELS, window=2, fill=jnp.zeros(2))
