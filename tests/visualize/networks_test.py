"""Every method on a residual network, a ConvNeXt, a U-Net and a module of Flax."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.interop import from_linen
from dlcore.networks import ConvNeXt, ConvNeXtConfig, ResNet, UNet, imagenet_config
from dlcore.nn import compose
from dlcore.visualize import Picture, feature_maps, logit
from dlcore.visualize import _cam as cam
from dlcore.visualize import _invert as invert
from dlcore.visualize import _maximize as maximize
from dlcore.visualize import _occlusion as occlusion
from dlcore.visualize import _patches as patches
from dlcore.visualize import _rules as rules
from dlcore.visualize import _saliency as saliency


class Flax(linen.Module):
    """Convolutions with a ReLU and a tanh called raw."""

    @linen.compact
    def __call__(self, x, train: bool = False):
        for i, activation in enumerate((linen.relu, linen.tanh)):
            x = linen.Conv(8, (3, 3), strides=2, name=f"conv_{i}")(x)
            x = activation(linen.BatchNorm(use_running_average=not train)(x))
        return linen.Dense(5)(x.mean((1, 2)))


def area_of(outputs, target):
    """For a network that answers with an image: the mean of its first channel, times the target."""
    return outputs[..., 0].mean((1, 2)) * target


UNET = UNet(3, (8, 8), heads=2)
NETWORKS = {
    "flax": (from_linen(Flax()), "conv_1", logit),
    "resnet18": (ResNet(imagenet_config(18, classes=5)), "stage_3", logit),
    "convnext_t": (ConvNeXt(ConvNeXtConfig(classes=5)), "stage_3", logit),
    "unet": (compose(lambda call, x: call("unet", x), unet=UNET), "unet/middle", area_of),
}


def moved(tree):
    """Leaves that start at 0, or nearly, are not: nothing is hidden by them."""
    return jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), tree)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_method_runs(name):
    model, path, score = NETWORKS[name]
    x, target = jax.random.normal(jax.random.key(0), (2, 32, 32, 3)), jnp.array([1, 2])
    params, state = model.init(jax.random.key(1), x)
    net = (model, moved(params), state, x, target)
    options, key = {"score": score, "block": 4}, jax.random.key(2)
    guided, deconvolved, plain = (
        method(*net, score=score) for method in (rules.guided_backpropagation, rules.deconvnet, saliency.gradient)
    )
    assert np.abs(guided - plain).max() > 1e-3 * np.abs(plain).max() < np.abs(deconvolved - guided).max()
    maps = {
        "guided": guided,
        "deconvnet": deconvolved,
        "saliency": saliency.saliency(*net, score=score),
        "smooth_grad": saliency.smooth_grad(*net, key=key, std=0.1, samples=2, **options),
        "integrated_gradients": saliency.integrated_gradients(*net, steps=4, **options),
        "occlusion": occlusion.occlusion(*net, window=16, stride=16, **options),
        "rise": occlusion.rise(*net, key=key, masks=4, **options),
        "guided_grad_cam": cam.guided_grad_cam(*net, path, score=score),
    }
    for method, found in maps.items():
        assert found.shape[:3] == (2, 32, 32) and np.isfinite(found).all() and np.abs(found).max() > 0, method
    for method in (cam.grad_cam, cam.hires_cam, cam.layer_cam):
        assert np.isfinite(method(*net, path, score=score)).all()
    picture = {"picture": Picture((32, 32, 3)), "key": key, "steps": 2}
    best = maximize.maximize(*net[:3], target, score=score, **picture)
    kept = feature_maps(*net[:4], path)
    again = invert.invert(*net[:3], kept, path, **picture)
    assert best.images.shape == again.shape == x.shape
    top = patches.top_patches(*net[:3], [x], path, count=2)
    assert top.values.shape == (kept.shape[-1], 2)
