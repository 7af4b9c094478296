"""Class activation maps by hand on two channels of four places, and on a network whose head is linear."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.interop import from_linen
from dlcore.nn import Activation, Conv, Dense, Function, GlobalAvgPool, identity, serial
from dlcore.visualize import _cam as cam
from dlcore.visualize import guided_backpropagation

A = np.stack([[[1.0, 2.0], [3.0, 4.0]], [[4.0, 3.0], [2.0, 1.0]]], -1)[None]
TOY = serial(
    maps=identity(),
    score=Function(lambda a: (a[:, 0, 0, 0] + 3 * a[:, 0, 1, 0] - a[..., 1].sum((1, 2)) / 2)[:, None], "sum"),
)
ZERO = jnp.array([0])
X = jax.random.normal(jax.random.key(0), (3, 6, 4, 2))
NET = serial(body=serial(Conv(4, 3, stride=2), Activation("silu")), pool=GlobalAvgPool(), head=Dense(3))
PARAMS, STATE = NET.init(jax.random.key(1), X)
LABELS = jnp.array([1, 2, 0])


def test_grad_cam_by_hand():
    outputs, slopes = cam.activation_and_gradient(TOY, {}, {}, jnp.float32(A), ZERO, "maps")
    np.testing.assert_array_equal(outputs, A)
    np.testing.assert_array_equal(slopes.mean((1, 2)), [[1, -0.5]])
    np.testing.assert_array_equal(cam.grad_cam(TOY, {}, {}, jnp.float32(A), ZERO, "maps"), [[[0, 0.5], [2, 3.5]]])


def test_hires_and_layer_cam_by_hand():
    slopes = np.stack([[[1.0, 3.0], [0.0, 0.0]], np.full((2, 2), -0.5)], -1)
    hires = np.maximum((slopes * A[0]).sum(-1), 0)
    np.testing.assert_array_equal(cam.hires_cam(TOY, {}, {}, jnp.float32(A), ZERO, "maps"), [hires])
    layer = (np.maximum(slopes, 0) * A[0]).sum(-1)
    np.testing.assert_array_equal(cam.layer_cam(TOY, {}, {}, jnp.float32(A), ZERO, "maps"), [layer])


def test_with_a_linear_head_it_is_the_class_activation_map():
    found = cam.grad_cam(NET, PARAMS, STATE, X, LABELS, "body/activation_0")
    maps = np.asarray(NET.apply.parts["body"].apply(PARAMS["body"], {}, X)[0])
    weights = np.asarray(PARAMS["head"]["kernel"]).T[np.asarray(LABELS)]
    expected = np.maximum(np.einsum("bhwc,bc->bhw", maps, weights), 0) / maps[0, ..., 0].size
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(cam.hires_cam(NET, PARAMS, STATE, X, LABELS, "body"), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found[1:2], cam.grad_cam(NET, PARAMS, STATE, X[1:2], LABELS[1:2], "body"), rtol=1e-5)


def test_guided_grad_cam_is_the_product_at_the_size_of_the_image():
    found = cam.guided_grad_cam(NET, PARAMS, STATE, X, LABELS, "body", method="nearest")
    coarse = np.asarray(cam.grad_cam(NET, PARAMS, STATE, X, LABELS, "body"))
    guided = np.asarray(guided_backpropagation(NET, PARAMS, STATE, X, LABELS))
    np.testing.assert_allclose(found, coarse.repeat(2, 1).repeat(2, 2)[..., None] * guided, rtol=1e-5)


class Flax(linen.Module):
    """The same network of Flax."""

    @linen.compact
    def __call__(self, x):
        x = linen.silu(linen.Conv(4, (3, 3), strides=2, name="conv")(x))
        return linen.Dense(3, name="head")(x.mean((1, 2)))


def test_submodules_of_flax_are_parts():
    params = {"conv": PARAMS["body"]["conv_0"], "head": PARAMS["head"]}
    found = cam.activation_and_gradient(from_linen(Flax()), params, {}, X, LABELS, "conv")
    ours = cam.activation_and_gradient(NET, PARAMS, STATE, X, LABELS, "body/conv_0")
    for a, b in zip(found, ours, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_parts_that_there_are_not_and_that_have_no_places_are_refused():
    with pytest.raises(ValueError, match="did you mean 'body'"):
        cam.grad_cam(NET, PARAMS, STATE, X, LABELS, "boddy")
    with pytest.raises(ValueError, match=r"'pool' gives .* no places"):
        cam.grad_cam(NET, PARAMS, STATE, X, LABELS, "pool")
