"""Architectures by name give what the table of published counts has (lecture 16)."""

import jax
import jax.numpy as jnp
import pytest
from network_table import ARCHITECTURES

from dlcore.networks.named import NETWORKS, network
from dlcore.nn.summary import summarize


def count(model, pixels, channels):
    params, _ = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, pixels, pixels, channels), jnp.float32)
    )
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize("name", ["lenet", "vgg11", "resnet18", "mobilenet_v2", "cifar_resnet20"])
def test_the_network_is_the_published_one(name):
    expected = ARCHITECTURES[name]
    assert count(network(name, expected.classes, expected.pixels), expected.pixels, expected.channels) == (
        expected.parameters
    )


def test_batch_norm_takes_the_place_of_the_bias():
    biases = 64 + 128 + 2 * 256 + 4 * 512
    assert count(network("vgg11_bn", 1000, 224), 224, 3) == ARCHITECTURES["vgg11_bn"].parameters - biases


def test_every_published_architecture_has_a_name():
    published = {name for name in ARCHITECTURES if not name.endswith(("_auxiliary", "_b"))}
    assert published == set(NETWORKS)


def test_small_images_get_the_small_stem():
    image = jax.ShapeDtypeStruct((1, 28, 28, 1), jnp.float32)
    small, large = (count(network("resnet18", 10, pixels), 28, 1) for pixels in (28, 224))
    # A stem of 3×3 instead of 7×7.
    assert large - small == (49 - 9) * 64
    assert (
        summarize(network("resnet18", 10, 28), image)[0].flops
        > 5 * summarize(network("resnet18", 10, 224), image)[0].flops
    )


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="got 'resnet-18'; did you mean 'resnet18'"):
        network("resnet-18", 10, 28)
