"""Maximally activating patches against a sort of all answers, and what a place sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import Activation, Conv, Dense, GlobalAvgPool, serial
from dlcore.visualize import cut_out, seen_from, top_patches

NET = serial(conv=Conv(3, 3, stride=2, padding=1), relu=Activation("relu"), pool=GlobalAvgPool(), head=Dense(2))
X = jax.random.normal(jax.random.key(0), (11, 7, 9, 2))
PARAMS, STATE = NET.init(jax.random.key(1), X)


def test_the_strongest_places_are_those_of_a_sort_over_the_whole_set():
    found = top_patches(NET, PARAMS, STATE, [X[:4], X[4:8], X[8:]], "conv", count=5)
    outputs = np.asarray(NET.apply.parts["conv"].apply(PARAMS["conv"], {}, X)[0])
    for c in range(3):
        peaks = [(-outputs[i, ..., c].max(), i) for i in range(11)]
        best = sorted(peaks)[:5]
        np.testing.assert_allclose(found.values[c], [-value for value, _ in best], rtol=1e-5)
        assert found.images[c].tolist() == [i for _, i in best]
        for i, site in zip(found.images[c], found.sites[c], strict=True):
            assert tuple(site) == np.unravel_index(outputs[i, ..., c].argmax(), outputs.shape[1:3])


def test_of_equal_answers_the_first_counts():
    x = jnp.concatenate([X[:1], X[:1], X[:1]])
    found = top_patches(NET, PARAMS, STATE, [x[:2], x[2:]], "conv", count=2)
    assert (found.images == [0, 1]).all()


@pytest.mark.slow
def test_a_place_sees_its_window_and_no_more():
    box = seen_from(NET, PARAMS, STATE, (7, 9, 2), "relu", (1, 2), key=jax.random.key(2))
    assert box == [(1, 3), (3, 5)]
    assert seen_from(NET, PARAMS, STATE, (7, 9, 2), "relu", (0, 0), key=jax.random.key(2)) == [(0, 1), (0, 1)]
    np.testing.assert_array_equal(cut_out(np.asarray(X[0]), box), X[0, 1:4, 3:6])


def test_too_few_images_and_parts_without_places_are_refused():
    with pytest.raises(ValueError, match="at most 11, the images"):
        top_patches(NET, PARAMS, STATE, [X], "conv", count=12)
    with pytest.raises(ValueError, match="no places"):
        top_patches(NET, PARAMS, STATE, [X], "pool", count=1)
