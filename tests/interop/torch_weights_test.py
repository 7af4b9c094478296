"""PyTorch weights: names, layouts, complaints, exact round trips, and the same logits as PyTorch (lecture 16, 18)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from network_table import ARCHITECTURES, TINY
from safetensors.numpy import load_file

from dlcore.interop import _torch_names as torch_names
from dlcore.interop.torch_weights import from_torch, read, to_torch, write
from dlcore.networks import ResNet, ResNetConfig

KNOWN = {
    "lenet": {"conv1.weight": (2, 3, 5, 5), "fc1.weight": (5, 12), "fc3.bias": (3,)},
    "alexnet": {"features.10.weight": (4, 5, 3, 3), "classifier.1.weight": (6, 16), "classifier.6.bias": (3,)},
    "vgg": {"features.5.weight": (6, 6, 3, 3), "classifier.0.weight": (5, 294), "classifier.6.weight": (3, 4)},
    "vgg_bn": {"features.7.weight": (6, 6, 3, 3), "features.8.running_mean": (6,), "classifier.0.weight": (3, 6)},
    "googlenet": {
        "conv3.conv.weight": (5, 4, 3, 3),
        "inception3a.branch2.0.bn.running_var": (3,),
        "inception4b.branch3.1.conv.weight": (3, 2, 3, 3),
        "inception5a.branch4.1.conv.weight": (2, 11, 1, 1),
        "fc.weight": (3, 11),
    },
    "resnet": {"bn1.bias": (4,), "layer2.0.downsample.0.weight": (6, 4, 1, 1), "layer2.2.conv2.weight": (6, 6, 3, 3)},
    "resnet_bottleneck_scan": {"layer1.1.conv3.weight": (16, 4, 1, 1), "layer2.2.bn2.running_mean": (6,)},
    "resnet_preactivation": {"layer1.0.bn1.weight": (4,), "layer2.1.conv2.weight": (6, 6, 3, 3), "bn.bias": (6,)},
    "densenet": {
        "features.conv0.weight": (4, 3, 3, 3),
        "features.denseblock1.denselayer2.norm1.weight": (6,),
        "features.transition1.conv.weight": (4, 8, 1, 1),
        "features.norm5.bias": (6,),
        "classifier.weight": (3, 6),
    },
    "mobilenet": {
        "features.1.conv.0.0.weight": (8, 1, 3, 3),
        "features.2.conv.1.0.weight": (16, 1, 3, 3),
        "features.4.conv.3.running_var": (8,),
        "features.5.1.weight": (16,),
        "classifier.1.weight": (3, 16),
    },
    "mobilenet_scan": {"features.4.conv.0.0.weight": (16, 8, 1, 1)},
    "convnext": {
        "features.0.1.weight": (4,),
        "features.1.0.layer_scale": (4, 1, 1),
        "features.3.1.block.3.weight": (24, 6),
        "features.2.1.weight": (6, 4, 2, 2),
        "classifier.2.bias": (3,),
    },
    "convnext_scan": {"features.3.1.block.0.weight": (6, 1, 7, 7)},
}
"""Some of PyTorch's names and shapes for each tiny network, written by hand."""


def template(net, pixels, channels=3):
    images = jax.ShapeDtypeStruct((2, pixels, pixels, channels), jnp.float32)
    return jax.eval_shape(net.init, jax.random.key(0), images)


def random_like(tree, seed=0):
    """Leaves of random numbers, positive where they are variances or scales."""
    rng = np.random.default_rng(seed)

    def leaf(path, x):
        if path[-1].key in ("variance", "scale"):
            return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
        spread = np.sqrt(2 / np.prod(x.shape[:-1])) if path[-1].key == "kernel" else 0.2
        return (spread * rng.standard_normal(x.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def same(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.sampled
@pytest.mark.parametrize("name", TINY)
def test_round_trip_through_a_file_is_exact(name, tmp_path):
    net = TINY[name]
    like = template(net.model, net.pixels)
    params, state = (random_like(tree, seed) for seed, tree in enumerate(like))
    write(tmp_path / "net.safetensors", net.names, params, state)
    stored = load_file(tmp_path / "net.safetensors")
    assert {key: stored[key].shape for key in KNOWN[name]} == KNOWN[name]
    assert all(f"{key.removesuffix('running_mean')}num_batches_tracked" in stored for key in stored if "_mean" in key)
    again = read(tmp_path / "net.safetensors", net.names, *like)
    same((params, state), again)


def test_layouts_by_hand():
    net = TINY["vgg"]
    params, state = (random_like(tree) for tree in template(net.model, net.pixels))
    tensors = to_torch(net.names, params, state)
    kernel, weight = params["features"]["stage_2"]["conv_1"]["kernel"], tensors["features.3.weight"]
    assert kernel.shape == (3, 3, 4, 6) and weight[5, 3, 0, 2] == kernel[0, 2, 3, 5]
    kernel, weight = params["head"]["hidden_1"]["kernel"], tensors["classifier.0.weight"]
    row, column, channel = 2, 6, 3
    assert weight[4, channel * 49 + row * 7 + column] == kernel[row * 7 * 6 + column * 6 + channel, 4]
    np.testing.assert_array_equal(tensors["classifier.3.weight"], params["head"]["hidden_2"]["kernel"].T)


@pytest.mark.slow
def test_scanned_and_plain_networks_read_the_same_file():
    config = {"blocks": (2, 3), "widths": (4, 6), "classes": 3, "stem": "small"}
    plain, scanned = (ResNet(ResNetConfig("bottleneck", **config, scan=scan)) for scan in (False, True))
    tensors = to_torch(torch_names.resnet, *(random_like(tree) for tree in template(plain, 8)))
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    outs = [
        jax.jit(lambda p, s, net=net: net.apply(p, s, x)[0])(
            *from_torch(tensors, torch_names.resnet, *template(net, 8))
        )
        for net in (plain, scanned)
    ]
    np.testing.assert_allclose(*outs, rtol=1e-5, atol=1e-5)


def test_all_that_does_not_fit_is_listed_at_once():
    net = TINY["resnet"]
    like = template(net.model, net.pixels)
    tensors = to_torch(net.names, *(random_like(tree) for tree in like))
    del tensors["conv1.weight"], tensors["layer1.0.bn1.running_mean"]
    tensors |= {"fc.weight": np.zeros((1000, 6), np.float32), "aux1.fc.weight": np.zeros(2), "more": np.zeros(2)}
    with pytest.raises(ValueError, match="these weights") as error:
        from_torch(tensors, net.names, *like)
    text = str(error.value)
    assert "missing: conv1.weight, layer1.0.bn1.running_mean" in text and "extra: aux1.fc.weight, more" in text
    assert "shape of fc.weight: (1000, 6), expected (3, 6)" in text
    with pytest.raises(ValueError, match="extra: more\n"):
        from_torch(tensors, net.names, *like, ignore="aux")


def test_counters_are_not_needed_and_values_take_the_dtype_of_the_net():
    net = TINY["resnet"]
    like = template(net.model, net.pixels)
    params, state = (random_like(tree) for tree in like)
    tensors = {k: v for k, v in to_torch(net.names, params, state).items() if "num_batches" not in k}
    again, _ = from_torch({k: v.astype(np.float16) for k, v in tensors.items()}, net.names, *like)
    assert {leaf.dtype for leaf in jax.tree.leaves(again)} == {jnp.dtype("float32")}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), again, params)


@pytest.mark.parametrize("name", ["vgg", "mobilenet"])
def test_the_names_of_another_architecture_are_refused(name):
    params, state = template(TINY["resnet"].model, 8)
    with pytest.raises(ValueError, match="no PyTorch name is known for"):
        from_torch({}, TINY[name].names, params, state)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_equal_those_of_pytorch(name, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    from torch_definitions import DEFINITIONS

    net = ARCHITECTURES[name]
    like = template(net.model, net.pixels, net.channels)
    params, state = (random_like(tree, seed) for seed, tree in enumerate(like))
    definition = DEFINITIONS[name]().eval()
    assert sum(p.numel() for p in definition.parameters()) == net.parameters
    write(tmp_path / "net.safetensors", net.names, params, state)
    tensors = {key: torch.from_numpy(value) for key, value in load_file(tmp_path / "net.safetensors").items()}
    definition.load_state_dict(tensors, strict=True)
    x = jax.random.normal(jax.random.key(2), (2, *image_shape(net)))
    with torch.no_grad():
        expected = definition(torch.from_numpy(np.array(x.transpose(0, 3, 1, 2))))
    ours = jax.jit(lambda p, s: net.model.apply(p, s, x)[0])(*read(tmp_path / "net.safetensors", net.names, *like))
    for mine, theirs in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        theirs = theirs.numpy()
        assert theirs.std(0).max() > 1e-3 * np.abs(theirs).max()
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def image_shape(net):
    """Smaller images where the network takes them, to save time: odd sizes show the rounding of every window."""
    return (75 if net.pixels == 224 else net.pixels,) * 2 + (net.channels,)
