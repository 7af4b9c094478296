"""The same maps as captum's, on ResNet-18 with PyTorch's weights, where both define the same thing (lecture 17)."""

import types
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.interop import _torch_names as torch_names
from dlcore.interop.torch_weights import from_torch
from dlcore.networks import ResNet, imagenet_config
from dlcore.visualize import _cam as cam
from dlcore.visualize import _occlusion as occlusion
from dlcore.visualize import _rules as rules
from dlcore.visualize import _saliency as saliency

MODEL = ResNet(imagenet_config(18))
LABELS = (3, 700)


def with_modules(net):
    """`net` with a module for every call of a ReLU: captum's rules see neither functions nor second calls."""
    from interop import torch_definitions
    from torch import nn

    net.relus, forward = nn.ModuleList([nn.ReLU() for _ in range(17)]), net.forward
    functions = torch_definitions.F

    def call(x):
        turn = iter(net.relus)
        own = types.SimpleNamespace(relu=lambda h: next(turn)(h), max_pool2d=functions.max_pool2d)
        with mock.patch.object(torch_definitions, "F", own):
            return forward(x)

    net.forward = call
    return net


@pytest.fixture(scope="module")
def both():
    """Our params and state, their network, and images."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("captum")
    from interop import torch_definitions

    torch.manual_seed(0)
    net = torch_definitions.resnet(18).eval()
    tensors = {name: value.numpy() for name, value in net.state_dict().items()}
    x = np.random.default_rng(0).standard_normal((2, 64, 64, 3), np.float32)
    like = jax.eval_shape(MODEL.init, jax.random.key(0), x)
    params, state = from_torch(tensors, torch_names.resnet, *like)
    images = torch.tensor(x.transpose(0, 3, 1, 2)).requires_grad_()
    return (MODEL, params, state, jnp.asarray(x), jnp.array(LABELS)), with_modules(net), images


def theirs(found):
    return found.detach().numpy().transpose(0, 2, 3, 1)


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_attributions_are_captums(both):
    ours, net, images = both
    from captum import attr

    options, target = {"internal_batch_size": 4}, list(LABELS)
    close(saliency.saliency(*ours), theirs(attr.Saliency(net).attribute(images, target=target)))
    close(saliency.input_times_gradient(*ours), theirs(attr.InputXGradient(net).attribute(images, target=target)))
    expected = attr.IntegratedGradients(net).attribute(images, images * 0 + 0.5, target, n_steps=8, **options)
    close(saliency.integrated_gradients(*ours, baseline=0.5, steps=8, block=4), theirs(expected))
    window = {"sliding_window_shapes": (3, 24, 24), "strides": (3, 20, 20), "baselines": 0.2}
    expected = theirs(attr.Occlusion(net).attribute(images, target=target, **window))[..., 0]
    close(occlusion.occlusion(*ours, window=24, stride=20, fill=0.2, block=8), expected)


@pytest.mark.slow
def test_backward_rules_and_class_activation_maps_are_captums(both):
    ours, net, images = both
    from captum import attr

    target = list(LABELS)
    close(rules.guided_backpropagation(*ours), theirs(attr.GuidedBackprop(net).attribute(images, target=target)))
    close(rules.deconvnet(*ours), theirs(attr.Deconvolution(net).attribute(images, target=target)))
    layer = attr.LayerGradCam(net, net.layer4).attribute(images, target=target, relu_attributions=True)
    close(cam.grad_cam(*ours, "stage_4"), layer.detach().numpy()[:, 0])
    expected = attr.GuidedGradCam(net, net.layer4).attribute(images, target=target, interpolate_mode="nearest")
    close(cam.guided_grad_cam(*ours, "stage_4", method="nearest"), theirs(expected))
