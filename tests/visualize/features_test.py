"""Filters as images and outputs of parts by path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import Activation, Conv, compose, serial
from dlcore.visualize import feature_maps, filters, paths

X = jax.random.normal(jax.random.key(0), (2, 5, 5, 3))
BODY = serial(conv=Conv(4, 3), relu=Activation("relu"))
NET = compose(lambda call, x: call("relu", -call("body", call("relu", x))), body=BODY, relu=Activation("relu"))
PARAMS, STATE = NET.init(jax.random.key(1), X)


def test_filters_keep_zero_grey_and_their_own_scale():
    kernel = np.random.default_rng(0).normal(size=(3, 2, 4, 5)).astype(np.float32)
    kernel[..., 3] = 0
    found = np.asarray(filters(jnp.asarray(kernel)))
    assert found.shape == (5, 3, 2, 4) and (found[3] == 0.5).all()
    for n in (0, 1, 2, 4):
        np.testing.assert_allclose(found[n], 0.5 + kernel[..., n] / (2 * np.abs(kernel[..., n]).max()), rtol=1e-6)
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        filters(jnp.ones((3, 4)))


def test_feature_maps_of_every_call():
    hidden = BODY.apply(PARAMS["body"], {}, jnp.maximum(X, 0))[0]
    np.testing.assert_allclose(feature_maps(NET, PARAMS, STATE, X, "relu"), np.maximum(X, 0))
    np.testing.assert_allclose(feature_maps(NET, PARAMS, STATE, X, "body/relu"), hidden, rtol=1e-6)
    np.testing.assert_allclose(feature_maps(NET, PARAMS, STATE, X, "relu:1"), np.maximum(-hidden, 0), rtol=1e-6)
    with pytest.raises(ValueError, match="did you mean 'body/relu'"):
        feature_maps(NET, PARAMS, STATE, X, "body/rely")


def test_paths_are_in_the_order_of_calls():
    shapes = paths(NET, PARAMS, STATE, X)
    assert list(shapes) == ["relu", "body/conv", "body/relu", "body", "relu:1"]
    assert shapes["relu"] == (2, 5, 5, 3) and shapes["body"] == (2, 5, 5, 4)
