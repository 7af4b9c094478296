"""Training steps on the CPU beside those of PyTorch, eager, channels last, two threads.

Each runs in a process of its own, as a user's would; both take turns.
"""

import itertools
import multiprocessing
import statistics
import time

import jax
import numpy as np
import optax
import pytest

from dlcore.losses import softmax_cross_entropy, supervised
from dlcore.networks import CNN, MLP, ResNet, cifar_config
from dlcore.train import create, gradient_update, make_train_step

TURNS, STEPS = 10, 6
MODELS = {
    "cnn": (CNN((32, 64), 10, hidden=128, dropout=0.25), (128, 28, 28, 1)),
    "resnet20": (ResNet(cifar_config(20)), (128, 32, 32, 3)),
    "mlp": (MLP((512, 256), 10, dropout=0.3), (256, 784)),
}
FLOOR = {"cnn": 1.0, "resnet20": 0.6, "mlp": 1.0}
"""What our rate must be of PyTorch's. XLA's convolutions between 16 to 64 channels take 1.3 to 2 times as long as
oneDNN's, the gradient of the kernel above all; the rest of a step is faster than PyTorch's (RESULTS.md)."""


def our_step(model, images, labels):
    """A function that takes one step of Adam and waits for it."""
    tx = optax.adam(1e-3)
    update = gradient_update(supervised(model, softmax_cross_entropy, inputs="image"), tx)
    step = jax.jit(make_train_step(update), donate_argnums=0)
    batch = {"image": jax.numpy.asarray(images), "label": jax.numpy.asarray(labels)}
    holder = [create(jax.random.key(0), lambda key: model.init(key, batch["image"]), update)]

    def once():
        holder[0], _ = step(holder[0], batch)
        jax.block_until_ready(holder[0])

    return once


def their_step(torch, name, images, labels):
    """The same in PyTorch, on the network written out in its own layers."""
    from torch import nn
    from torch_definitions import cifar_resnet

    def stage(inputs, outputs):
        return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU()

    def dense(*sizes, rate):
        return [
            layer
            for inputs, outputs in itertools.pairwise(sizes)
            for layer in (nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(rate))
        ]

    definition = {
        "cnn": lambda: nn.Sequential(
            *stage(1, 32), *stage(32, 64), nn.Flatten(), *dense(3136, 128, rate=0.25), nn.Linear(128, 10)
        ),
        "resnet20": lambda: cifar_resnet(20),
        "mlp": lambda: nn.Sequential(*dense(784, 512, 256, rate=0.3), nn.Linear(256, 10)),
    }[name]().train()
    x, y = torch.from_numpy(images), torch.from_numpy(labels).long()
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        definition = definition.to(memory_format=torch.channels_last)
    optimizer, loss = torch.optim.Adam(definition.parameters(), 1e-3), nn.CrossEntropyLoss()

    def once():
        optimizer.zero_grad()
        loss(definition(x), y).backward()
        optimizer.step()

    return once


def serve(who, name, seed, line):
    """The life of a process: make a step, then for every number that comes take so many, and send their seconds."""
    model, shape = MODELS[name]
    rng = np.random.default_rng(seed)
    images, labels = rng.standard_normal(shape, np.float32), rng.integers(0, 10, shape[0]).astype(np.int32)
    if who == "theirs":
        import torch

        torch.set_num_threads(2)
        step = their_step(torch, name, images, labels)
    else:
        step = our_step(model, images, labels)
    step()
    line.send(None)
    while count := line.recv():
        step()
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - began)
        line.send(seconds)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_training_step_beside_pytorch(name):
    pytest.importorskip("torch", reason="needs PyTorch: pip install -e '.[torch]'")
    context = multiprocessing.get_context("spawn")
    lines, seconds = {}, {"ours": [], "theirs": []}
    for who in seconds:
        lines[who], far = context.Pipe()
        context.Process(target=serve, args=(who, name, 0, far), daemon=True).start()
        lines[who].recv()
    for _, who in itertools.product(range(TURNS), seconds):
        time.sleep(0.1)  # PyTorch's threads wait busily for more work, for a while
        lines[who].send(STEPS)
        seconds[who] += lines[who].recv()
    for line in lines.values():
        line.send(0)
    rates = {who: MODELS[name][1][0] / statistics.median(values) for who, values in seconds.items()}
    ratio = rates["ours"] / rates["theirs"]
    print(f"{name}: {rates['ours']:,.0f} images/s, PyTorch {rates['theirs']:,.0f}: {ratio:.2f} times")
    assert ratio >= FLOOR[name]
