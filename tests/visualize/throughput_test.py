"""Attributions of ResNet-18 at 64×64, 16 images: their time in gradients, and beside captum's, eager, two threads.

Each side runs in a process of its own, as a user's would; both take turns.
"""

import functools
import itertools
import multiprocessing
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import ResNet, imagenet_config
from dlcore.visualize import integrated_gradients, occlusion, saliency

TURNS, COUNT, STEPS, WINDOW, STRIDE = 5, 16, 16, 16, 16
TARGET = np.arange(COUNT) * 60
FLOOR = 0.8
"""What our rate must be of captum's. Both compute the same convolutions; see RESULTS.md for what was measured."""


def our_methods(images):
    """A function of no arguments for every method, which waits for its result."""
    model = ResNet(imagenet_config(18))
    x = jnp.asarray(images)
    params, state = jax.jit(model.init)(jax.random.key(0), x[:1])
    target = jnp.asarray(TARGET)

    def training_gradient(params, x):
        def loss(params, x):
            logits = model.apply(params, state, x, train=False)[0]
            return jnp.take_along_axis(logits, target[:, None], 1).sum()

        return jax.value_and_grad(loss, (0, 1))(params, x)

    maps = {
        "gradient": jax.jit(training_gradient),
        "saliency": jax.jit(lambda params, x: saliency(model, params, state, x, target)),
        "integrated_gradients": jax.jit(
            lambda params, x: integrated_gradients(model, params, state, x, target, steps=STEPS, block=1)
        ),
        "occlusion": jax.jit(
            lambda params, x: occlusion(model, params, state, x, target, window=WINDOW, stride=STRIDE, block=1)
        ),
    }
    return {name: functools.partial(lambda f: jax.block_until_ready(f(params, x)), f) for name, f in maps.items()}


def their_methods(images):
    """The same in PyTorch by captum, with the numbers of steps and windows that it computes at once by default."""
    import torch
    from captum import attr
    from interop import torch_definitions

    torch.set_num_threads(2)
    net = torch_definitions.resnet(18).eval().to(memory_format=torch.channels_last)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).requires_grad_()
    target = [int(t) for t in TARGET]
    window = {"sliding_window_shapes": (3, WINDOW, WINDOW), "strides": (3, STRIDE, STRIDE)}
    return {
        "saliency": lambda: attr.Saliency(net).attribute(x, target=target),
        "integrated_gradients": lambda: attr.IntegratedGradients(net).attribute(
            x, target=target, n_steps=STEPS, internal_batch_size=COUNT
        ),
        "occlusion": lambda: attr.Occlusion(net).attribute(x, target=target, **window),
    }


def serve(methods, line):
    """The life of a process: for every name that comes, compute it once and send its seconds."""
    images = np.random.default_rng(0).standard_normal((COUNT, 64, 64, 3), np.float32)
    known = methods(images)
    for compute in known.values():
        compute()
    line.send(list(known))
    while name := line.recv():
        began = time.perf_counter()
        known[name]()
        line.send(time.perf_counter() - began)


@pytest.mark.slow
@pytest.mark.long
def test_attributions_cost_few_gradients_and_no_more_than_captums():
    pytest.importorskip("captum", reason="needs captum: pip install -e '.[torch]'")
    context = multiprocessing.get_context("spawn")
    lines, seconds = {}, {}
    for who, methods in {"ours": our_methods, "theirs": their_methods}.items():
        lines[who], far = context.Pipe()
        context.Process(target=serve, args=(methods, far), daemon=True).start()
        seconds |= {(who, name): [] for name in lines[who].recv()}
    for _, (who, name) in itertools.product(range(TURNS), seconds):
        time.sleep(0.1)  # PyTorch's threads wait busily for more work, for a while
        lines[who].send(name)
        seconds[who, name].append(lines[who].recv())
    for line in lines.values():
        line.send("")
    typical = {key: statistics.median(values) for key, values in seconds.items()}
    ratios = {name: typical["theirs", name] / typical["ours", name] for who, name in typical if who == "theirs"}
    gradients = typical["ours", "saliency"] / typical["ours", "gradient"]
    print(f"saliency costs {gradients:.2f} gradients; beside captum " + str(ratios))
    assert gradients <= 3
    assert min(ratios.values()) >= FLOOR
