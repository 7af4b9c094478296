"""The gated PixelCNN in PyTorch, over whole images, and its mixture of discretised logistics."""

import torch
from torch.nn import functional

from launch.speed.torch_net import Net, Tensors

WHITE = 255
LOG_SCALES = (-7.0, 5.0)
"""Range to which log-scales of the logistics are clipped."""


def names(net: Net) -> list[str]:
    """Of the layers, in their order."""
    return [f"layer_{i}" for i in range(1, 10) if f"layer_{i}/out/kernel" in net.params]


def gate(x: torch.Tensor) -> torch.Tensor:
    """tanh(a) ⊙ σ(b) of the two halves of the channels."""
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()


def outputs(net: Net, batch: Tensors) -> torch.Tensor:
    """Logits, means and log-scales [b, 3·m, h, w] of the mixture at every pixel."""
    up, h = None, 2 * batch["image"] - 1
    for at in names(net):
        up, left = _vertical(net, h if up is None else gate(up), at), _horizontal(net, h, at)
        if sees_image(at):
            above, beside = net.position(f"{at}/position").chunk(2)
            up, left = up + above, left + beside
        out = net.conv(gate(left + net.conv(up, f"{at}/link")), f"{at}/out")
        h = out if sees_image(at) else h + out
    return net.conv(functional.relu(net.conv(functional.relu(h), "head/hidden")), "head/outputs")


def sees_image(at: str) -> bool:
    """Whether it is the first layer, to whose stacks the current pixel and the current row are not known."""
    return at == "layer_1"


def _vertical(net: Net, x: torch.Tensor, at: str) -> torch.Tensor:
    """Rows down to the current one, or to the one above it."""
    height, width = net.params[f"{at}/vertical/kernel"].shape[2:]
    x = x[:, :, :-1] if sees_image(at) else x
    side, top = width // 2, height - 1 + sees_image(at)
    return net.conv(functional.pad(x, (side, side, top, 0)), f"{at}/vertical", padding=0)


def _horizontal(net: Net, x: torch.Tensor, at: str) -> torch.Tensor:
    """Pixels up to the current one, or to the one at its left."""
    kernel = net.params[f"{at}/horizontal/kernel"]
    reach = kernel.shape[3] - 1
    kernel, x = (kernel[..., :reach], x[..., :-1]) if sees_image(at) else (kernel, x)
    return functional.conv2d(functional.pad(x, (reach, 0)), kernel, net.params[f"{at}/horizontal/bias"])


def mixture(numbers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits, means and log-scales, each [b, m, ...]."""
    logits, mean, log_scale = numbers.chunk(3, 1)
    return logits, mean, log_scale.clamp(*LOG_SCALES)


def negative_log_likelihood(net: Net, batch: Tensors) -> torch.Tensor:
    """Mean of −log Σ_m π_m (σ(h_m) − σ(l_m)) over pixels, in nats, by logarithms without a difference."""
    x = batch["image"]
    logits, mean, log_scale = mixture(outputs(net, batch).to(x.dtype))
    level, inverse = (WHITE * x).round(), (-log_scale).exp() / WHITE
    distance = 2 * level - WHITE - WHITE * mean
    below_high = functional.logsigmoid((distance + 1) * inverse)
    above_low = functional.logsigmoid((1 - distance) * inverse)
    inner = below_high + above_low + (-torch.expm1(-2 * inverse)).log()
    mass = torch.where(level == 0, below_high, torch.where(level == WHITE, above_low, inner))
    return -(logits.log_softmax(1) + mass).logsumexp(1).mean()


def drawn(numbers: torch.Tensor, r: int, c: int) -> torch.Tensor:
    """Grey levels [b, 1] in [0, 1] from the mixtures [b, 3·m] of a pixel."""
    logits, mean, log_scale = mixture(numbers)
    chosen = torch.multinomial(logits.softmax(1), 1)
    noise = torch.rand(chosen.shape, device=numbers.device).logit(eps=1e-7)
    value = mean.gather(1, chosen) + log_scale.gather(1, chosen).exp() * noise
    return ((value + 1) * (WHITE / 2)).round().clamp(0, WHITE) / WHITE
