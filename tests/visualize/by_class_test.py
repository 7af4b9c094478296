"""Maps by class and layer against one question at a time, and the parts that are looked at (lecture 17)."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import CNN, MLP
from dlcore.visualize import Question, Settings, answers, attribution, by_class, layers_of, network

SHAPE = (8, 6, 1)
MODEL = CNN((3, 4), 5, activation="silu", pool="avg")
X = jax.random.normal(jax.random.key(1), (2, *SHAPE))
PARAMS, STATE = jax.jit(MODEL.init)(jax.random.key(0), X)
SETTINGS = Settings("stage_2", 0.1, samples=2, steps=3, window=2, stride=2, masks=4, grid=2)
BLACK = jnp.full(SHAPE, -0.5)
KEY = jax.random.key(2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["saliency", "occlusion", "grad_cam"])
def test_every_class_is_asked_for(name):
    question = Question(MODEL, PARAMS, STATE, X, jnp.array([4, 0]))
    found = by_class(name, question, SETTINGS, 5, ("stage_1", "stage_2"), baseline=BLACK, key=KEY)
    assert found.shape == (2 if name == "grad_cam" else 1, 2, 5, 8, 6)
    for i, layer in enumerate(layers_of(name, ("stage_1", "stage_2"), "stage_2")):
        for k in range(5):
            asked = question._replace(target=jnp.full(2, k))
            maps = np.asarray(attribution(name, asked, replace(SETTINGS, layer=layer), baseline=BLACK, key=KEY))
            largest = np.abs(maps).max((1, 2), keepdims=True)
            np.testing.assert_allclose(found[i, :, k] * largest, maps, rtol=1e-4, atol=1e-6)
    peaks = np.abs(found).max((3, 4))
    assert ((peaks == 0) | np.isclose(peaks, 1)).all()


def test_answers_are_the_softmax_of_the_outputs():
    logits = np.asarray(MODEL.apply(PARAMS, STATE, X)[0], np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(answers(Question(MODEL, PARAMS, STATE, X, jnp.zeros(2, int))), expected, rtol=1e-5)


def test_the_parts_that_are_looked_at():
    found = network(MODEL, SHAPE)
    assert found.stages == ("stage_1", "stage_2") and found.layer == found.patch_layer == "stage_2"
    assert found.kernel == "stage_1/conv_0/kernel" and found.groups == ("head", "stage_2", "stage_1")
    assert network(MODEL, SHAPE, "stage_1", "stage_1/conv_0")[1:3] == ("stage_1", "stage_1/conv_0")
    with pytest.raises(ValueError, match="unknown layer with places 'stage_3'"):
        network(MODEL, SHAPE, "stage_3")
    with pytest.raises(ValueError, match="no convolutions"):
        network(MLP((4,), outputs=3), SHAPE)
