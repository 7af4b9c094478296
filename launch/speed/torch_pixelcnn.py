"""The gated PixelCNN in PyTorch: training over whole images, sampling one pixel at a time over cached activations."""

from collections.abc import Callable, Iterator

import torch
from torch.nn import functional

from launch.speed.torch_net import Net, Tensors
from launch.speed.workload import SAMPLES

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
        if _first(at):
            above, beside = net.position(f"{at}/position").chunk(2)
            up, left = up + above, left + beside
        out = net.conv(gate(left + net.conv(up, f"{at}/link")), f"{at}/out")
        h = out if _first(at) else h + out
    return net.conv(functional.relu(net.conv(functional.relu(h), "head/hidden")), "head/outputs")


def _first(at: str) -> bool:
    """Whether it sees the image, of which it must not see the current pixel, nor the vertical stack the current row."""
    return at == "layer_1"


def _vertical(net: Net, x: torch.Tensor, at: str) -> torch.Tensor:
    """Rows down to the current one, or to the one above it: what padding gives below is cut off."""
    height, width = net.params[f"{at}/vertical/kernel"].shape[2:]
    y = net.conv(x, f"{at}/vertical", padding=(height - 1 + _first(at), width // 2))
    return y[:, :, : x.shape[2]]


def _horizontal(net: Net, x: torch.Tensor, at: str) -> torch.Tensor:
    """Pixels up to the current one, or to the one at its left."""
    kernel = net.params[f"{at}/horizontal/kernel"]
    reach = kernel.shape[3] - 1
    kernel = kernel[..., :reach] if _first(at) else kernel
    return functional.conv2d(x, kernel, net.params[f"{at}/horizontal/bias"], padding=(0, reach))[..., : x.shape[3]]


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


class CachedLayer:
    """A layer with what it has seen of an image: the rows above, and the pixels at the left in the current row."""

    def __init__(self, net: Net, at: str, count: int) -> None:
        self.net, self.at, self.first = net, at, _first(at)
        rows, columns, _ = net.params["layer_1/position/bias"].shape
        kernel = net.params[f"{at}/vertical/kernel"]
        features, self.height, self.side = kernel.shape[1], kernel.shape[2], kernel.shape[3] // 2
        top = self.height - 1 + self.first
        self.up = kernel.new_zeros(count, rows + top, columns + 2 * self.side, features)
        self.left = kernel.new_zeros(count, columns + self.side, features)
        # Pixels of a patch stand side by side: the window is one matrix product.
        kernel = net.params[f"{at}/horizontal/kernel"][:, :, 0]
        self.reach = kernel.shape[2] - self.first
        self.kernel = kernel[..., : self.reach].transpose(1, 2).flatten(1)
        self.out = net.params[f"{at}/out/kernel"][:, :, 0, 0]

    def start_row(self, r: int) -> torch.Tensor:
        """What the vertical stack tells row r [b, f, 1, w], from what is above it."""
        seen = self.up[:, r : r + self.height].permute(0, 3, 1, 2)
        up = self.net.conv(seen, f"{self.at}/vertical", padding=0)
        told = self.net.params[f"{self.at}/horizontal/bias"][:, None, None]
        if self.first:
            above, beside = self.net.position(f"{self.at}/position")[:, r : r + 1].chunk(2)
            up, told = up + above, told + beside
        self.told = (self.net.conv(up, f"{self.at}/link") + told)[:, :, 0].permute(2, 0, 1).contiguous()
        self.left.zero_()
        return gate(up)

    def see_row(self, r: int, row: torch.Tensor) -> None:
        """Keep row r [b, f, 1, w] of what this layer is given."""
        low, high = self.side, self.up.shape[2] - self.side
        self.up[:, r + self.height - 1 + self.first, low:high] = row[:, :, 0].transpose(1, 2)

    def see(self, c: int, value: torch.Tensor) -> None:
        """Keep the pixel at column c [b, f] of what this layer is given."""
        self.left[:, c + self.side] = value

    def pixel(self, c: int, h: torch.Tensor | None) -> torch.Tensor:
        """The outputs at column c [b, f], whose inputs h it has seen; none where it sees the image."""
        seen = self.left[:, c : c + self.reach].flatten(1)
        out = functional.linear(
            gate(torch.addmm(self.told[c], seen, self.kernel.T)), self.out, self.net.params[f"{self.at}/out/bias"]
        )
        return out if h is None else h + out


def pixel_by_pixel(
    net: Net, count: int, choose: Callable[[torch.Tensor, int, int], torch.Tensor]
) -> Iterator[torch.Tensor]:
    """Rows [b, w] of images of which `choose(numbers, r, c)` says each pixel [b, 1], from its mixture [b, 3·m]."""
    rows, columns, _ = net.params["layer_1/position/bias"].shape
    layers = [CachedLayer(net, at, count) for at in names(net)]
    hidden, last = (net.params[f"head/{name}/kernel"][:, :, 0, 0] for name in ("hidden", "outputs"))
    for r in range(rows):
        row = None
        for layer in layers:
            if row is not None:
                layer.see_row(r, row)
            row = layer.start_row(r)
        for c in range(columns):
            h = None
            for layer in layers:
                if h is not None:
                    layer.see(c, h)
                h = layer.pixel(c, h)
            h = functional.linear(functional.relu(h), hidden, net.params["head/hidden/bias"])
            numbers = functional.linear(functional.relu(h), last, net.params["head/outputs/bias"])
            layers[0].see(c, 2 * choose(numbers, r, c) - 1)
        row = layers[0].left[:, layers[0].side :, 0]
        layers[0].see_row(r, row[:, None, None])
        yield (row + 1) / 2


def sample(net: Net) -> torch.Tensor:
    """Images [b, h, w]."""
    return torch.stack(list(pixel_by_pixel(net, SAMPLES, drawn)), 1)
