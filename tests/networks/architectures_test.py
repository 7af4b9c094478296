"""What every architecture owes: published counts, shapes, small images, moving statistics (lecture 16)."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_table import ARCHITECTURES, SMALL, TINY

LIKE = (
    *("vgg13", "vgg16", "vgg19", "vgg13_bn", "vgg16_bn", "vgg19_bn", "googlenet_auxiliary"),
    *("resnet34", "resnet50", "resnet101", "resnet152", "densenet161", "densenet169", "densenet201"),
    *(f"cifar_resnet{n}{kind}" for n in (32, 44, 56, 110) for kind in ("", "_preactivation")),
    *("cifar_resnet20_b", "cifar_resnet20_preactivation_b"),
)
"""Tracing takes seconds each, and a sister's count is proven."""

LIKE_SMALL = ("googlenet", "resnet18", "cifar_resnet20_preactivation", "mobilenet_v2", "convnext_tiny")
"""The same of small images: AlexNet, VGG and DenseNet have the three kinds of stem and head."""

AGAIN = ("alexnet", "vgg", "resnet", "resnet_preactivation", "mobilenet_scan", "convnext_scan")
"""Their parts, and what a scanned stage does, are seen in another network."""


@functools.cache
def template(model, pixels, channels):
    """Params, state and images, as shapes: nothing is computed."""
    images = jax.ShapeDtypeStruct((2, pixels, pixels, channels), jnp.float32)
    return *jax.eval_shape(model.init, jax.random.key(0), images), images


def output(model, params, state, images):
    return jax.eval_shape(lambda *args: model.apply(*args)[0], params, state, images)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LIKE else name for name in ARCHITECTURES]
)
def test_published_parameter_count(name):
    net = ARCHITECTURES[name]
    params, _, _ = template(net.model, net.pixels, net.channels)
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) == net.parameters


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "alexnet", "vgg11_bn", "resnet18", "mobilenet_v2", "convnext_tiny"])
def test_logits_of_large_images(name):
    net = ARCHITECTURES[name]
    out = output(net.model, *template(net.model, net.pixels, net.channels))
    assert out.shape == (2, net.classes)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in LIKE_SMALL else n for n in SMALL])
def test_small_images(name):
    model = SMALL[name]
    params, state, images = template(model, 28, 1)
    # The same params serve both sizes, but for AlexNet's, whose first dense layer sees every position.
    larger = images if name == "alexnet" else jax.ShapeDtypeStruct((2, 32, 32, 1), jnp.float32)
    assert output(model, params, state, larger).shape == (2, 10)


@pytest.mark.sampled
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in AGAIN else n for n in TINY])
def test_training_on_eight_devices_reaches_everything_and_equals_one(name):
    net = TINY[name]
    x = jax.random.normal(jax.random.key(0), (8, net.pixels, net.pixels, 3))
    # Noise wakes what starts at 0, its mean keeps units alive: one may have no gradient, a whole leaf should have one.
    # With seed 3 a bias of GoogLeNet lies before a normalisation that takes it away: its gradient is rounding alone.
    rng = np.random.default_rng(7 if name == "googlenet" else 3)
    like = jax.eval_shape(net.model.init, jax.random.key(1), x)
    params = jax.tree.map(lambda p: (0.1 + 0.3 * rng.normal(size=p.shape)).astype(np.float32), like[0])
    state = jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape).astype(np.float32), like[1])

    def run(params, x):
        out, new = net.model.apply(params, state, x, train=True, key=jax.random.key(2))
        return jnp.square(out).sum(), (out, new)

    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    grads, (out, new) = jax.jit(jax.grad(run, has_aux=True))(params, split)
    still = [jax.tree_util.keystr(p) for p, g in jax.tree_util.tree_leaves_with_path(grads) if not np.abs(g).any()]
    assert out.shape == (8, 3) and not still
    changed = jax.tree.map(lambda old, now: bool(np.all(old != now)), state, new)
    assert all(jax.tree.leaves(changed)), changed
    _, one = jax.jit(run)(params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), (out, new), one)
