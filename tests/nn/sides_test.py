"""Padding and cropping of sides that cannot be halved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import Conv, crop_sides, cropped, pad_sides, padded, padded_sides, serial


@pytest.mark.parametrize("sides", [(5, 7), (4, 8), (1, 3), (8, 9)])
@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize(("mode", "numpy_mode"), [("constant", "constant"), ("edge", "edge")])
def test_padding_adds_below_and_at_the_right_and_cropping_takes_it_off(sides, factor, mode, numpy_mode):
    x = np.random.default_rng(0).normal(size=(2, *sides, 3)).astype(np.float32)
    extra = [(-side) % factor for side in sides]
    expected = np.pad(x, ((0, 0), (0, extra[0]), (0, extra[1]), (0, 0)), mode=numpy_mode)
    found = pad_sides(jnp.asarray(x), factor, mode)
    np.testing.assert_array_equal(found, expected)
    assert padded_sides(sides, factor) == expected.shape[1:3]
    np.testing.assert_array_equal(crop_sides(found, *sides), x)


def test_grey_levels_stay_integers():
    assert pad_sides(jnp.ones((1, 3, 3, 1), jnp.uint8), 2).dtype == jnp.uint8


def test_sides_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="4×3 does not fit into 3×3"):
        crop_sides(jnp.zeros((1, 3, 3, 1)), 4, 3)
    with pytest.raises(ValueError, match="factor must be a whole number of at least 1, got 0"):
        padded_sides((3, 3, 1), 0)


@pytest.mark.slow
def test_wrapped_networks_keep_paths_and_see_what_they_need():
    inner = serial(Conv(4, 3, padding="valid"), Conv(2, 1))
    x = jax.random.normal(jax.random.key(0), (2, 5, 6, 3))
    outer = cropped(inner, 2, 3)
    params, state = outer.init(jax.random.key(1), x)
    assert jax.tree.structure(params) == jax.tree.structure(inner.init(jax.random.key(1), x)[0])
    np.testing.assert_array_equal(outer.apply(params, state, x)[0], inner.apply(params, state, x)[0][:, :2, :3])
    same = serial(Conv(2, 1))
    params, state = padded(same, 4).init(jax.random.key(1), x)
    wide = jnp.pad(x, ((0, 0), (0, 3), (0, 2), (0, 0)), mode="edge")
    np.testing.assert_allclose(
        padded(same, 4).apply(params, state, x)[0], same.apply(params, state, wide)[0][:, :5, :6], rtol=1e-6
    )
