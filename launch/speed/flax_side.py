"""The workloads as a user of Flax writes them: Linen, optax, XLA's own convolutions and pooling.

Modules carry the names of dlcore's parts, with a dot for the slash, so that both start from the same file.
"""

import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen

from launch.speed import flax_flow, flax_pixelcnn
from launch.speed.workload import CLASSES, LEARNING_RATE, Workload

STATISTICS = {"variance": "var"}
"""Names that Flax has for what dlcore's state calls otherwise."""

Batch = Mapping[str, jax.Array]


def batch_norm(x: jax.Array, name: str, train: bool) -> jax.Array:
    """With the settings of the other sides."""
    return linen.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)(x)


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


class ResNet20(linen.Module):
    """Three stages of three blocks, shortcuts that drop pixels and add channels of zeros."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits."""

        def conv(x: jax.Array, features: int, name: str, stride: int = 1) -> jax.Array:
            options = {"strides": stride, "padding": [(1, 1), (1, 1)], "use_bias": False}
            return linen.Conv(features, (3, 3), name=name, **options)(x)

        x = linen.relu(batch_norm(conv(x, 16, "stem.conv"), "stem.norm", train))
        for stage, features in ((1, 16), (2, 32), (3, 64)):
            for block in range(3):
                at, stride = f"stage_{stage}.block_{block}.add.body", 2 if stage > 1 and block == 0 else 1
                h = linen.relu(batch_norm(conv(x, features, f"{at}.conv_1", stride), f"{at}.norm_1", train))
                h = batch_norm(conv(h, features, f"{at}.conv_2"), f"{at}.norm_2", train)
                x = jnp.pad(x[:, ::stride, ::stride], [(0, 0)] * 3 + [(0, features - x.shape[-1])])
                x = linen.relu(x + h)
        return linen.Dense(10, name="head")(x.mean((1, 2)))


class UNet(linen.Module):
    """Three resolutions of one block each way."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Logits of the pixels."""
        widths, kept = (32, 64, 128), []
        conv = lambda x, features, name: linen.Conv(features, (3, 3), name=name)(x)  # noqa: E731
        norm = lambda x, name: linen.GroupNorm(8, epsilon=1e-5, name=name)(x)  # noqa: E731

        def block(x: jax.Array, features: int, at: str) -> jax.Array:
            h = conv(linen.silu(norm(x, f"{at}.norm_1")), features, f"{at}.conv_1")
            h = conv(linen.silu(norm(h, f"{at}.norm_2")), features, f"{at}.conv_2")
            return h + (x if x.shape == h.shape else linen.Conv(features, (1, 1), name=f"{at}.shortcut")(x))

        h = conv(x, widths[0], "stem")
        for i, width in enumerate(widths):
            h = block(linen.avg_pool(h, (2, 2), (2, 2)) if i else h, width, f"down_{i}_0")
            kept.append(h)
        h = block(h, widths[-1], "middle")
        for i in (2, 1, 0):
            h = h if i == 2 else jax.image.resize(h, kept[i].shape[:-1] + h.shape[-1:], "nearest")
            h = block(jnp.concatenate([h, kept[i]], -1), widths[i], f"up_{i}_0")
        return conv(linen.silu(norm(h, "norm")), CLASSES["unet"], "out")


def entropy(logits: jax.Array, batch: Batch) -> jax.Array:
    """Cross-entropy of classes."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"]).mean()


NETWORKS: dict[str, tuple[Callable[[], linen.Module], Callable[[jax.Array, Batch], jax.Array]]] = {
    "mlp": (MLP, entropy),
    "cnn": (CNN, entropy),
    "resnet20": (ResNet20, entropy),
    "pixelcnn": (flax_pixelcnn.PixelCNN, flax_pixelcnn.negative_log_likelihood),
    "flow": (flax_flow.Glow, flax_flow.negative_log_likelihood),
    "unet": (UNet, entropy),
}
"""Modules, and the losses of what they give."""


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


def loss_of(name: str, params: Any, statistics: Any, batch: Batch) -> tuple[jax.Array, Any]:
    """The loss, and the statistics that it moves."""
    make, loss = NETWORKS[name]
    variables = {"params": params, "batch_stats": statistics}
    outputs, moved = make().apply(variables, batch["image"], True, mutable=["batch_stats"])
    return loss(outputs, batch), moved.get("batch_stats", {})


def open_workload(name: str, weights: Path, images: int) -> Workload:
    """The workload of this name, started from the file of dlcore's side."""
    with np.load(weights) as file:
        arrays = dict(file)
    model, tx, start = NETWORKS[name][0](), optax.adam(LEARNING_RATE), variables(arrays)
    batch = {path.removeprefix("batch/"): jnp.asarray(v) for path, v in arrays.items() if path.startswith("batch/")}
    image = batch["image"]

    def loss(params: Any, statistics: Any) -> tuple[jax.Array, Any]:
        return loss_of(name, params, statistics, batch)

    def step(params: Any, statistics: Any, memory: Any) -> tuple[Any, Any, Any]:
        gradient, statistics = jax.grad(loss, has_aux=True)(params, statistics)
        change, memory = tx.update(gradient, memory, params)
        return optax.apply_updates(params, change), statistics, memory

    params, statistics = start["params"], start["batch_stats"]
    first = float(jax.jit(loss)(params, statistics)[0])
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    holder = [(params, statistics, tx.init(params))]
    began = time.monotonic()
    compiled = jax.jit(step, donate_argnums=(0, 1, 2)).lower(*holder[0]).compile()
    facts = {"compile_seconds": time.monotonic() - began}

    def steps(count: int) -> None:
        for _ in range(count):
            holder[0] = compiled(*holder[0])
        jax.block_until_ready(holder[0])

    predict = jax.jit(
        lambda params, statistics: model.apply({"params": params, "batch_stats": statistics}, image, False)
    )

    def infer(count: int) -> None:
        jax.block_until_ready([predict(*holder[0][:2]) for _ in range(count)])

    steps(1)
    facts |= {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    return Workload(len(image), first, count, steps, infer, facts=facts)
