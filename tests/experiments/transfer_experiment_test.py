"""transfer: where a start comes from, and settings that cannot be (lecture 18)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.data import DataSpec
from dlcore.interop import names_of, torch_weights
from dlcore.networks import network
from dlcore.train import Result
from experiments import transfer

SPEC = DataSpec("drawn", (8, 8, 1), 17, 6, tuple("abcdef"), (90, 9, 9), (0.3,), (0.3,))


def configured(**settings):
    return dataclasses.replace(transfer.preset("smoke", SPEC), **settings)


def test_groups_go_from_the_input_to_the_head():
    image = jax.ShapeDtypeStruct((1, 8, 8, 1), jnp.float32)
    config = configured(model="lenet", head="dense_3/**")
    parts = transfer.groups(config, transfer.make_model(config, SPEC, 3), image)
    assert parts == ("conv_1/**", "conv_2/**", "dense_1/**", "dense_2/**", "dense_3/**")


def test_a_start_from_the_first_stage_and_from_pytorchs_weights(tmp_path):
    first = Result({}, {"head": 1}, {"norm": 2})
    assert transfer.trained_start(configured(), SPEC, {"first": first}) == ({"head": 1}, {"norm": 2})
    like = jax.eval_shape(network("lenet", 7, 8).init, jax.random.key(3), jnp.zeros((1, 8, 8, 1)))
    rng = np.random.default_rng(0)
    params, state = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), like)
    torch_weights.write(tmp_path / "net.safetensors", names_of("lenet"), params, state)
    settings = {"model": "lenet", "head": "dense_3/**", "methods": ("probe",), "source_classes": 7}
    config = configured(source=str(tmp_path / "net.safetensors"), **settings)
    found = transfer.trained_start(config, SPEC, {})
    assert all(map(np.array_equal, *map(jax.tree.leaves, (found, (params, state)))))
    assert list(transfer.build(config, SPEC).stages) == ["few"]
    with pytest.raises(ValueError, match="net"):
        transfer.trained_start(dataclasses.replace(config, source_classes=9), SPEC, {})


def test_names_are_known_by_architecture():
    assert names_of("resnet18") is names_of("cifar_resnet20_preactivation")
    assert names_of("vgg16_bn") is names_of("vgg11") is not names_of("mobilenet_v2")
    with pytest.raises(ValueError, match="not for 'cnn'"):
        names_of("cnn")


def test_settings_that_cannot_be_are_refused_before_anything_is_trained():
    for settings, message in (
        ({"methods": ("scratch", "prob")}, "methods must be some of scratch, probe"),
        ({"head": "haed/**"}, "fits no path"),
        ({"seeds": 0}, "must be at least 1"),
        ({"labels": (4, 31)}, "some of 1 to 30"),
        ({"layer_decay": 0.0}, r"layer_decay: decay .* must lie in \(0"),
    ):
        with pytest.raises(ValueError, match=message):
            transfer.build(configured(**settings), SPEC)
    with pytest.raises(ValueError, match="four classes or more, and drawn has 3"):
        transfer.build(configured(), SPEC._replace(classes=3))
