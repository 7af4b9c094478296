"""How long attributions of ResNet-18 take on the CPU: beside a forward and backward pass, and beside captum.

16 images of 64×64, PyTorch eager with two threads, calls in turns, medians.
"""

import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import ResNet, imagenet_config
from dlcore.visualize import integrated_gradients, occlusion, saliency

MODEL = ResNet(imagenet_config(18))
TURNS, STEPS = 5, 16
WINDOW = {"window": 16, "stride": 8}


@pytest.fixture(scope="module")
def ours():
    """What every method takes: images and a class of each."""
    x = np.random.default_rng(0).standard_normal((16, 64, 64, 3), np.float32)
    params, state = jax.jit(MODEL.init)(jax.random.key(0), x)
    return MODEL, params, state, jnp.asarray(x), jnp.arange(16)


@pytest.fixture(scope="module")
def theirs():
    """captum's module, PyTorch's network and the same images."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    attr = pytest.importorskip("captum.attr", reason="needs captum: pip install -e '.[torch]'")
    from interop import torch_definitions

    torch.set_num_threads(2)
    x = np.random.default_rng(0).standard_normal((16, 64, 64, 3), np.float32)
    images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).requires_grad_()
    net = torch_definitions.resnet(18).eval().to(memory_format=torch.channels_last)
    return attr, net, images, list(range(16))


def timed(**functions):
    """Median seconds of each, in turns; the first turn, which compiles, does not count."""
    spent = {name: [] for name in functions}
    for turn in range(TURNS + 1):
        for name, function in functions.items():
            time.sleep(0.2)  # PyTorch's threads wait busily for more work, for a while
            began = time.perf_counter()
            jax.block_until_ready(function())
            spent[name] += [time.perf_counter() - began] if turn else []
    medians = {name: statistics.median(times) for name, times in spent.items()}
    print(", ".join(f"{name} {1000 * second:,.0f} ms" for name, second in medians.items()))
    return medians


@pytest.mark.slow
def test_saliency_costs_a_forward_and_backward_pass(ours):
    model, params, state, x, _ = ours

    @jax.jit
    def both(params, x):
        return jax.grad(lambda p: model.apply(p, state, x)[0].sum())(params)

    found = timed(saliency=lambda: saliency(*ours), both=lambda: both(params, x))
    assert found["saliency"] <= 3 * found["both"]


@pytest.mark.slow
def test_integrated_gradients_beside_captum(ours, theirs):
    attr, net, images, target = theirs
    method = attr.IntegratedGradients(net)
    found = timed(
        ours=lambda: integrated_gradients(*ours, steps=STEPS),
        captum=lambda: method.attribute(images, target=target, n_steps=STEPS, internal_batch_size=64).detach().numpy(),
    )
    assert found["captum"] >= 3 * found["ours"]


@pytest.mark.slow
def test_occlusion_beside_captum(ours, theirs):
    attr, net, images, target = theirs
    method = attr.Occlusion(net)
    window = {"sliding_window_shapes": (3, 16, 16), "strides": (3, 8, 8), "perturbations_per_eval": 4}
    found = timed(
        ours=lambda: occlusion(*ours, **WINDOW),
        captum=lambda: method.attribute(images, target=target, **window).detach().numpy(),
    )
    assert found["captum"] >= 3 * found["ours"]
