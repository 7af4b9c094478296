"""The workloads in PyTorch as it is used well on CPU: channels last, fused optimiser, inference mode."""

import math
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from launch.speed import torch_flow, torch_pixelcnn, torch_pixelcnn_cached
from launch.speed.torch_net import Net, Tensors, depth_to_space, flat, tensor, unflat
from launch.speed.workload import EVALUATIONS, LATENT, LEARNING_RATE, SAMPLES, Workload


def mlp(net: Net, batch: Tensors) -> torch.Tensor:
    """784-512-512-10."""
    h = flat(batch["image"])
    for i in range(2):
        h = functional.relu(net.dense(h, f"dense_{i}"))
    return net.dense(h, "dense_2")


def cnn(net: Net, batch: Tensors) -> torch.Tensor:
    """Two stages and a hidden layer."""
    h = batch["image"]
    for i in (1, 2):
        h = functional.relu(
            net.batch_norm(functional.max_pool2d(net.conv(h, f"stage_{i}/conv_0"), 2), f"stage_{i}/batch_norm_0")
        )
    return net.dense(functional.relu(net.dense(flat(h), "head/dense_0")), "head/dense_1")


def resnet(net: Net, batch: Tensors) -> torch.Tensor:
    """Residual blocks, basic or bottleneck, by the names that there are."""
    h = functional.relu(net.batch_norm(net.conv(batch["image"], "stem/conv", stride=_stem_stride(net)), "stem/norm"))
    h = functional.max_pool2d(h, 3, 2, 1) if _stem_stride(net) == 2 else h
    for stage in range(1, 5):
        for block in range(10):
            at = f"stage_{stage}/block_{block}/add"
            if f"{at}/body/conv_1/kernel" in net.params:
                h = functional.relu(_residual(net, h, at, 2 if stage > 1 and block == 0 else 1))
    return net.dense(h.mean((2, 3)), "head")


def _stem_stride(net: Net) -> int:
    return 2 if net.params["stem/conv/kernel"].shape[-1] == 7 else 1


def _residual(net: Net, x: torch.Tensor, at: str, stride: int) -> torch.Tensor:
    bottleneck = f"{at}/body/conv_3/kernel" in net.params
    h, last = x, 3 if bottleneck else 2
    for i in range(1, last + 1):
        step = stride if i == (2 if bottleneck else 1) else 1
        h = net.batch_norm(net.conv(h, f"{at}/body/conv_{i}", stride=step), f"{at}/body/norm_{i}")
        h = functional.relu(h) if i < last else h
    if f"{at}/shortcut/conv/kernel" in net.params:
        x = net.batch_norm(net.conv(x, f"{at}/shortcut/conv", stride=stride), f"{at}/shortcut/norm")
    elif h.shape != x.shape:
        x = functional.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, h.shape[1] - x.shape[1]))
    return x + h


def autoencoder(net: Net, batch: Tensors) -> torch.Tensor:
    """Convolutions of stride 2 down, sub-pixel ones up."""
    h = batch["image"]
    for i in range(2):
        # "Same" padding at stride 2 puts the odd cell at the high side.
        h = functional.silu(net.conv(functional.pad(h, (0, 1, 0, 1)), f"encoder/conv_{i}", stride=2, padding=0))
    h = net.dense(functional.silu(net.dense(flat(h), "encoder/dense_0")), "encoder/dense_1")
    h = functional.silu(net.dense(functional.silu(net.dense(h, "decoder/dense_0")), "decoder/dense_1"))
    h = unflat(h, 64, 7)
    for i in range(2):
        h = functional.silu(depth_to_space(net.conv(h, f"decoder/conv_{i}")))
    return net.conv(h, "decoder/conv_2")


def unet(net: Net, batch: Tensors, *told: torch.Tensor) -> torch.Tensor:
    """Three resolutions; the blocks are `told` an embedding of the time, if there is one."""
    h, kept = net.conv(batch["image"], "stem"), []
    for i in range(3):
        h = _unet_block(net, functional.avg_pool2d(h, 2) if i else h, f"down_{i}_0", *told)
        kept.append(h)
    h = _unet_block(net, h, "middle", *told)
    for i in reversed(range(3)):
        h = torch.cat([h if i == 2 else functional.interpolate(h, scale_factor=2.0), kept[i]], 1)
        h = _unet_block(net, h, f"up_{i}_0", *told)
    return net.conv(functional.silu(net.group_norm(h, "norm")), "out")


def _unet_block(net: Net, x: torch.Tensor, at: str, *told: torch.Tensor) -> torch.Tensor:
    h = net.group_norm(net.conv(functional.silu(net.group_norm(x, f"{at}/norm_1")), f"{at}/conv_1"), f"{at}/norm_2")
    for e in told:
        scale, shift = net.dense(functional.silu(e), f"{at}/film")[..., None, None].chunk(2, 1)
        h = torch.addcmul(shift, h, 1 + scale)
    h = net.conv(functional.silu(h), f"{at}/conv_2")
    return h + (net.conv(x, f"{at}/shortcut") if f"{at}/shortcut/kernel" in net.params else x)


def time_unet(net: Net, batch: Tensors) -> torch.Tensor:
    """The U-Net that is told a time."""
    width = net.params["stem/kernel"].shape[0]
    steps = torch.arange(width // 2, dtype=torch.float32, device=batch["time"].device) / (width // 2 - 1)
    angle = batch["time"][:, None] * torch.exp(-math.log(10_000) * steps)
    e = torch.cat([angle.sin(), angle.cos()], 1)
    return unet(net, batch, net.dense(functional.silu(net.dense(e, "time/dense_0")), "time/dense_1"))


def entropy(network: Callable[[Net, Tensors], torch.Tensor]) -> Callable[[Net, Tensors], torch.Tensor]:
    """Cross-entropy of classes."""
    return lambda net, batch: functional.cross_entropy(network(net, batch), batch["label"].long())


def encoded(net: Net, batch: Tensors) -> torch.Tensor:
    """Mean and logarithm of the standard deviation of the latent code."""
    return net.dense(functional.relu(net.dense(flat(batch["image"]), "encoder/dense_0")), "encoder/dense_1")


def decoded(net: Net, z: torch.Tensor) -> torch.Tensor:
    """Logits of pixels."""
    return net.dense(functional.relu(net.dense(z, "decoder/dense_0")), "decoder/dense_1")


def elbo(net: Net, batch: Tensors) -> torch.Tensor:
    """The negative bound of a VAE."""
    mean, log_std = encoded(net, batch).chunk(2, 1)
    logits = decoded(net, mean + log_std.exp() * batch["noise"])
    nll = functional.binary_cross_entropy_with_logits(logits, flat(batch["image"]), reduction="none").sum(1)
    return (nll + 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(1)).mean()


def estimate(net: Net, batch: Tensors, noise: str) -> torch.Tensor:
    """−log (1/k) Σ p(x|z) p(z) / q(z|x) of every image, over the k draws of this entry of the batch."""
    eps = batch[noise]
    mean, log_std = encoded(net, batch)[:, None].chunk(2, 2)
    z = mean + log_std.exp() * eps
    logits, pixels = decoded(net, z), flat(batch["image"])[:, None]
    nll = functional.binary_cross_entropy_with_logits(logits, pixels.expand_as(logits), reduction="none").sum(2)
    # The constants of both densities cancel.
    log_weights = (0.5 * (eps.square() - z.square()) + log_std).sum(2) - nll
    return math.log(eps.shape[1]) - log_weights.logsumexp(1)


def generated(net: Net, z: torch.Tensor) -> torch.Tensor:
    """Images of the DCGAN."""
    h = functional.relu(
        net.batch_norm(unflat(net.dense(z, "generator/start/dense_0"), 128, 7), "generator/start/batch_norm_0")
    )
    h = h.contiguous(memory_format=torch.channels_last)
    at = "generator/up_1"
    h = functional.conv_transpose2d(h, net.params[f"{at}/conv_transpose_0/kernel"], stride=2, padding=1)
    h = functional.relu(net.batch_norm(h, f"{at}/batch_norm_0"))
    at = "generator/image/conv_transpose_0"
    return functional.conv_transpose2d(
        h, net.params[f"{at}/kernel"], net.params[f"{at}/bias"], stride=2, padding=1
    ).tanh()


def judged(net: Net, x: torch.Tensor) -> torch.Tensor:
    """Logits of the discriminator."""
    for i in range(2):
        x = functional.leaky_relu(net.conv(x, f"discriminator/features/block_conv_{i}", stride=2, padding=1), 0.2)
    return net.dense(flat(x), "discriminator/logit")[:, 0]


def discriminator_loss(net: Net, batch: Tensors) -> torch.Tensor:
    """Real against generated images; the generator's statistics stay."""
    kept = net.state
    net.state = {k: v.clone() for k, v in kept.items()}
    with torch.no_grad():
        fake = generated(net, batch["noise"])
    net.state = kept
    return (functional.softplus(-judged(net, 2 * batch["image"] - 1)) + functional.softplus(judged(net, fake))).mean()


def generator_loss(net: Net, batch: Tensors) -> torch.Tensor:
    """Non-saturating."""
    return functional.softplus(-judged(net, generated(net, batch["noise"]))).mean()


def denoise(net: Net) -> torch.Tensor:
    """Samples of the diffusion by a plain loop."""
    x = torch.randn(SAMPLES, 1, 32, 32)
    for t in torch.linspace(999.0, 0.0, EVALUATIONS):
        x = x - time_unet(net, {"image": x, "time": t.expand(SAMPLES)}) / EVALUATIONS
    return x


error = lambda network, target: lambda net, batch: functional.mse_loss(network(net, batch), batch[target])  # noqa: E731
NETWORKS: dict[str, tuple[dict[str, Callable], Callable]] = {
    "mlp": ({"": entropy(mlp)}, mlp),
    "cnn": ({"": entropy(cnn)}, cnn),
    "resnet20": ({"": entropy(resnet)}, resnet),
    "resnet50": ({"": entropy(resnet)}, resnet),
    "vae": ({"": elbo}, encoded),
    "iwae": (
        {"": lambda net, batch: estimate(net, batch, "noise").mean()},
        lambda net, batch: estimate(net, batch, "many_noise"),
    ),
    "autoencoder": ({"": error(autoencoder, "image")}, autoencoder),
    "pixelcnn": ({"": torch_pixelcnn.negative_log_likelihood}, torch_pixelcnn.outputs),
    "flow": ({"": torch_flow.negative_log_likelihood}, torch_flow.log_prob),
    "gan": (
        {"discriminator/": discriminator_loss, "generator/": generator_loss},
        lambda net, batch: judged(net, batch["image"]),
    ),
    "diffusion": ({"": error(time_unet, "noise")}, time_unet),
    "unet": ({"": entropy(unet)}, unet),
}
"""Losses by the names of the params that they train, and what inference computes."""
DRAW = {
    "vae": lambda net: decoded(net, torch.randn(SAMPLES, LATENT["vae"])).sigmoid(),
    "pixelcnn": torch_pixelcnn_cached.sample,
    "flow": torch_flow.sample,
    "gan": lambda net: generated(net, torch.randn(SAMPLES, LATENT["gan"])),
    "diffusion": denoise,
}


def open_workload(name: str, weights: Path, images: int) -> Workload:
    """The workload of this name, started from the file of dlcore's side."""
    with np.load(weights) as file:
        arrays = dict(file)
    net, (losses, predict) = Net(arrays), NETWORKS[name]
    batch = {k[6:]: tensor(k, v) for k, v in arrays.items() if k.startswith("batch/")}
    groups = [([v for k, v in net.params.items() if k.startswith(start)], f) for start, f in losses.items()]
    updates = [(torch.optim.Adam(params, LEARNING_RATE, fused=True), params, loss) for params, loss in groups]
    kept = {k: v.clone() for k, v in net.state.items()}
    first = next(iter(losses.values()))(net, batch).item()
    for k, v in kept.items():
        net.state[k].copy_(v)

    def steps(count: int) -> None:
        net.train = True
        for _ in range(count):
            for optimiser, params, loss in updates:
                for value, gradient in zip(params, torch.autograd.grad(loss(net, batch), params), strict=True):
                    value.grad = gradient
                optimiser.step()

    def still(function: Callable[[Net], Any]) -> Callable[[int], None]:
        def run(count: int) -> None:
            net.train = False
            with torch.inference_mode():
                for _ in range(count):
                    function(net)

        return run

    began = time.monotonic()
    steps(1)
    facts = {"first_step_seconds": time.monotonic() - began}
    facts |= {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    count = sum(value.numel() for value in net.params.values())
    draw = DRAW.get(name)
    infer = still(lambda net: predict(net, batch))
    return Workload(batch["image"].shape[0], first, count, steps, infer, draw and still(draw), facts)
