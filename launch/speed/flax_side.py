"""The workloads as a user of Flax writes them: Linen, optax, XLA's own convolutions and pooling.

Modules carry the names of dlcore's parts, with a dot for the slash, so that both start from the same file.
"""

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

from launch.speed import (
    flax_autoencoder,
    flax_flow,
    flax_gan,
    flax_pixelcnn,
    flax_resnet,
    flax_unet,
    flax_vae,
)
from launch.speed.flax_net import Batch, Network, batch_norm, trained, training
from launch.speed.workload import Workload

STATISTICS = {"variance": "var"}
"""Names that Flax has for what dlcore's state calls otherwise."""


class MLP(linen.Module):
    """784-512-512-10."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        x = x.reshape(len(x), -1)
        for i in range(2):
            x = linen.relu(linen.Dense(512, name=f"dense_{i}")(x))
        return linen.Dense(10, name="dense_2")(x)


class CNN(linen.Module):
    """Two stages and a hidden layer."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""
        for i, features in ((1, 32), (2, 64)):
            x = linen.Conv(features, (3, 3), use_bias=False, name=f"stage_{i}.conv_0")(x)
            x = linen.relu(batch_norm(linen.max_pool(x, (2, 2), (2, 2)), f"stage_{i}.batch_norm_0", train))
        x = linen.relu(linen.Dense(128, name="head.dense_0")(x.reshape(len(x), -1)))
        return linen.Dense(10, name="head.dense_1")(x)


def entropy(logits: jax.Array, batch: Batch) -> jax.Array:
    """Cross-entropy of classes."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()


NETWORKS: dict[str, Network] = {
    "mlp": trained(MLP(), entropy),
    "cnn": trained(CNN(), entropy),
    "resnet20": trained(flax_resnet.ResNet20(), entropy),
    "resnet50": trained(flax_resnet.ResNet50(), entropy),
    "vae": flax_vae.VAE,
    "iwae": flax_vae.IWAE,
    "autoencoder": trained(flax_autoencoder.Autoencoder(), flax_autoencoder.squared_error),
    "pixelcnn": trained(flax_pixelcnn.PixelCNN(), flax_pixelcnn.negative_log_likelihood),
    "flow": trained(flax_flow.Glow(), flax_flow.negative_log_likelihood),
    "gan": flax_gan.GAN,
    "diffusion": flax_unet.DIFFUSION,
    "unet": trained(flax_unet.UNet(), entropy),
}
"""By name, as dlcore's side calls them."""


def variables(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """What dlcore's side wrote, as Flax keeps it."""
    found: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for path, value in arrays.items():
        kind, *parts, leaf = path.split("/")
        if kind == "params":
            found["params"].setdefault(".".join(parts), {})[leaf] = jnp.asarray(value)
        elif kind == "state":
            found["batch_stats"].setdefault(".".join(parts), {})[STATISTICS.get(leaf, leaf)] = jnp.asarray(value)
    return found


def open_workload(name: str, weights: Path, images: int) -> Workload:
    """The workload of this name, started from the file of dlcore's side."""
    with np.load(weights) as file:
        arrays = dict(file)
    network, start = NETWORKS[name], variables(arrays)
    batch = {path.removeprefix("batch/"): jnp.asarray(v) for path, v in arrays.items() if path.startswith("batch/")}
    params, statistics = start["params"], start["batch_stats"]
    first = float(jax.jit(next(iter(network.losses.values())))(params, statistics, batch)[0])
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    step, memory = training(network.losses, params)
    holder = [(params, statistics, memory)]
    began = time.monotonic()
    compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*holder[0], batch).compile()
    facts = {"compile_seconds": time.monotonic() - began}

    def steps(count: int) -> None:
        for _ in range(count):
            holder[0] = compiled(*holder[0], batch)
        jax.block_until_ready(holder[0])

    def repeated(function: Callable, last: Callable[[int], Any]) -> Callable[[int], None]:
        def run(count: int) -> None:
            jax.block_until_ready([function(*holder[0][:2], last(i)) for i in range(count)])

        return run

    infer = repeated(jax.jit(network.predict), lambda i: batch)
    sample = network.sample and repeated(network.sample, jax.random.key)
    steps(1)
    facts |= {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    return Workload(len(batch["image"]), first, count, steps, infer, sample, facts)
