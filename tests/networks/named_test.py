"""Architectures by name give what the table of published counts has (lecture 16)."""

import jax
import jax.numpy as jnp
import pytest
from network_table import ARCHITECTURES

from dlcore.networks import network
from dlcore.networks._named import NETWORKS


def count(model, pixels, channels):
    params, _ = jax.eval_shape(
        model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, pixels, pixels, channels), jnp.float32)
    )
    return sum(leaf.size for leaf in jax.tree.leaves(params))


QUICK = ("lenet", "vgg11", "resnet18", "cifar_resnet20")
WITH_BIAS = [name for name in NETWORKS if not name.endswith("_bn")]


@pytest.mark.sampled
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in WITH_BIAS]
)
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
    for pixels, window in [(28, 3), (63, 3), (64, 11)]:
        images = jax.ShapeDtypeStruct((1, pixels, pixels, 1), jnp.float32)
        params, _ = jax.eval_shape(network("alexnet", 10, pixels).init, jax.random.key(0), images)
        assert params["features"]["conv_1"]["kernel"].shape == (window, window, 1, 64)


def test_lenet_frames_its_images_to_32_pixels():
    assert [count(network("lenet", 10, pixels), pixels, 1) for pixels in (8, 28, 31, 32)] == [61_706] * 4


@pytest.mark.slow
def test_images_that_would_be_halved_away_are_refused():
    for name in ("vgg11_bn", "convnext_tiny"):
        with pytest.raises(ValueError, match=f"{name} needs images of at least 16 pixels, got 15"):
            network(name, 10, 15)
    # One pixel less does not fit, the smallest size does.
    x = jax.ShapeDtypeStruct((1, 16, 16, 1), jnp.float32)
    for name in ("vgg11", "convnext_tiny"):
        jax.eval_shape(network(name, 10, 16).init, jax.random.key(0), x)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="unknown model 'resnet-18'; did you mean 'resnet18'"):
        network("resnet-18", 10, 28)
