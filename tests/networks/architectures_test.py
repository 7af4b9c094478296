"""What every architecture owes: published counts, shapes, small images, moving statistics (lecture 16)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_table import ARCHITECTURES, SMALL, TINY

DEEP = (
    "resnet34",
    "resnet101",
    "resnet152",
    "densenet161",
    "densenet169",
    "densenet201",
    "cifar_resnet44",
    "cifar_resnet56",
    "cifar_resnet110",
)
"""Tracing these takes seconds each."""


def template(model, pixels, channels):
    """Params, state and images, as shapes: nothing is computed."""
    images = jax.ShapeDtypeStruct((2, pixels, pixels, channels), jnp.float32)
    return *jax.eval_shape(model.init, jax.random.key(0), images), images


def output(model, params, state, images):
    return jax.eval_shape(lambda *args: model.apply(*args)[0], params, state, images)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name for name in ARCHITECTURES]
)
def test_published_parameter_count(name):
    net = ARCHITECTURES[name]
    params, _, _ = template(net.model, net.pixels, net.channels)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == net.parameters


@pytest.mark.parametrize("name", ["lenet", "alexnet", "vgg11_bn", "resnet18", "mobilenet_v2", "convnext_tiny"])
def test_logits_of_large_images(name):
    net = ARCHITECTURES[name]
    out = output(net.model, *template(net.model, net.pixels, net.channels))
    assert out.shape == (2, net.classes)


@pytest.mark.parametrize("name", SMALL)
def test_small_images(name):
    model = SMALL[name]
    at_28, at_32 = (template(model, pixels, 1) for pixels in (28, 32))
    assert output(model, *at_28).shape == (2, 10)
    # AlexNet's first dense layer sees every position.
    assert name == "alexnet" or jax.tree.map(jnp.shape, at_28[0]) == jax.tree.map(jnp.shape, at_32[0])


@pytest.mark.parametrize("name", TINY)
def test_training_reaches_everything_on_one_device_as_on_eight(name):
    net = TINY[name]
    x = jax.random.normal(jax.random.key(0), (8, net.pixels, net.pixels, 3))
    params, state = jax.eval_shape(net.model.init, jax.random.key(1), x)
    # Noise around the usual sizes wakes what starts at 0: a dead unit has no gradient, a whole leaf should have one.
    rng = np.random.default_rng(3)
    params = jax.tree.map(lambda p: 0.3 * rng.normal(size=p.shape).astype(np.float32), params)
    state = jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape).astype(np.float32), state)

    @jax.jit
    def run(params, x):
        def loss(params):
            out, new = net.model.apply(params, state, x, train=True, key=jax.random.key(2))
            return jnp.square(out).sum(), (out, new)

        return jax.grad(loss, has_aux=True)(params)

    grads, (out, new) = one = run(params, x)
    assert out.shape == (8, 3)
    still = [jax.tree_util.keystr(p) for p, g in jax.tree_util.tree_leaves_with_path(grads) if not np.abs(g).any()]
    assert not still
    assert jax.tree.structure(new) == jax.tree.structure(state)
    changed = jax.tree.map(lambda old, now: bool(np.all(old != now)), state, new)
    assert all(jax.tree.leaves(changed)), changed
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    eight = run(params, jax.device_put(x, jax.NamedSharding(mesh, jax.P("data"))))
    # Biases before a norm have a gradient of rounding errors.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * max(1, np.abs(a).max())), one, eight
    )
