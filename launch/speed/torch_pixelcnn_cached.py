"""The gated PixelCNN in PyTorch one pixel at a time, over cached activations: the vertical stack by rows, the
horizontal one by small matrix products."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch.nn import functional

from launch.speed.torch_net import Net
from launch.speed.torch_pixelcnn import drawn, gate, names, sees_image
from launch.speed.workload import SAMPLES


class CachedLayer:
    """A layer with what it has seen: the rows above, and the pixels at the left in the current row."""

    def __init__(self, net: Net, at: str, count: int) -> None:
        self.net, self.at, self.first = net, at, sees_image(at)
        rows, columns, _ = net.params["layer_1/position/bias"].shape
        kernel = net.params[f"{at}/vertical/kernel"]
        features, self.height, self.side = kernel.shape[1], kernel.shape[2], kernel.shape[3] // 2
        self.up = kernel.new_zeros(count, rows + self.height - 1 + self.first, columns + 2 * self.side, features)
        self.left = kernel.new_zeros(count, columns + self.side, features)
        kernel = net.params[f"{at}/horizontal/kernel"][:, :, 0]
        self.reach = kernel.shape[2] - self.first
        self.kernel = kernel[..., : self.reach].permute(2, 1, 0).flatten(0, 1)

    def start_row(self, r: int) -> torch.Tensor:
        """Keep what the vertical stack tells row r, and give what it hands up, [b, f, 1, w]."""
        up = self.net.conv(self.up[:, r : r + self.height].permute(0, 3, 1, 2), f"{self.at}/vertical", padding=0)
        told = self.net.params[f"{self.at}/horizontal/bias"][:, None, None]
        if self.first:
            above, beside = self.net.position(f"{self.at}/position")[:, r : r + 1].chunk(2)
            up, told = up + above, told + beside
        told = told + self.net.conv(up, f"{self.at}/link")
        self.told = told[:, :, 0].permute(2, 0, 1).contiguous()
        return gate(up)

    def see_row(self, r: int, row: torch.Tensor) -> None:
        """Keep row r of the vertical input, [b, f, 1, w]."""
        until = self.up.shape[2] - self.side
        self.up[:, r + self.height - 1 + self.first, self.side : until] = row[:, :, 0].transpose(1, 2)

    def see(self, c: int, pixel: torch.Tensor) -> None:
        """Keep the horizontal input at column c, [b, f]."""
        self.left[:, c + self.side] = pixel

    def pixel(self, c: int) -> torch.Tensor:
        """The horizontal output at column c before what it is added to, [b, f]."""
        seen = self.left[:, c : c + self.reach].flatten(1)
        return point(self.net, gate(torch.addmm(self.told[c], seen, self.kernel)), f"{self.at}/out")


def point(net: Net, x: torch.Tensor, at: str) -> torch.Tensor:
    """A 1×1 convolution at one pixel, [b, f]."""
    return functional.linear(x, net.params[f"{at}/kernel"].flatten(1), net.params[f"{at}/bias"])


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Products as small as these are done before a second thread wakes; on a busy machine waiting for it costs most."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@one_thread()
def pixel_by_pixel(net: Net, count: int, choose: Callable[[torch.Tensor, int, int], torch.Tensor]) -> torch.Tensor:
    """Images [b, 1, h, w] of which `choose(numbers, r, c)` gives a pixel [b, 1] from its mixture [b, 3·m]."""
    rows, columns, _ = net.params["layer_1/position/bias"].shape
    image, *others = (CachedLayer(net, at, count) for at in names(net))
    for r in range(rows):
        v = image.start_row(r)
        for layer in others:
            layer.see_row(r, v)
            v = layer.start_row(r)
        for c in range(columns):
            h = image.pixel(c)
            for layer in others:
                layer.see(c, h)
                h = h + layer.pixel(c)
            numbers = point(net, functional.relu(point(net, functional.relu(h), "head/hidden")), "head/outputs")
            image.see(c, 2 * choose(numbers, r, c) - 1)
        image.see_row(r, image.left[:, image.side :].transpose(1, 2)[:, :, None])
    seen = image.up[:, -rows:, image.side : -image.side]
    return (seen.permute(0, 3, 1, 2) + 1) / 2


def sample(net: Net) -> torch.Tensor:
    """Images [b, 1, h, w]."""
    return pixel_by_pixel(net, SAMPLES, drawn)
