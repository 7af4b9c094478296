"""Params by their path and PyTorch's layers over them.

Tensors come from the file that dlcore's side wrote, by the same names, so that both start alike.
"""

import math
from typing import Any

import numpy as np
import torch
from torch.nn import functional

Tensors = dict[str, torch.Tensor]


class Net:
    """Tensors by their path, of which `params` are trained, and `state` moves; `train` as in a module."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.params = {k[7:]: tensor(k, v).requires_grad_() for k, v in arrays.items() if k.startswith("params/")}
        self.state = {k[6:]: tensor(k, v) for k, v in arrays.items() if k.startswith("state/")}
        self.train = True

    def dense(self, x: torch.Tensor, at: str) -> torch.Tensor:
        """A linear layer."""
        return functional.linear(x, self.params[f"{at}/kernel"], self.params.get(f"{at}/bias"))

    def conv(self, x: torch.Tensor, at: str, **options: Any) -> torch.Tensor:
        """A convolution of an odd window that keeps the size, or halves it."""
        kernel = self.params[f"{at}/kernel"]
        options = {"padding": kernel.shape[-1] // 2} | options
        return functional.conv2d(x, kernel, self.params.get(f"{at}/bias"), **options)

    def batch_norm(self, x: torch.Tensor, at: str) -> torch.Tensor:
        """Batch norm, which moves its statistics in training."""
        moments = self.state[f"{at}/mean"], self.state[f"{at}/variance"]
        affine = self.params[f"{at}/scale"], self.params[f"{at}/bias"]
        return functional.batch_norm(x, *moments, *affine, training=self.train, momentum=0.1, eps=1e-5)

    def group_norm(self, x: torch.Tensor, at: str) -> torch.Tensor:
        """Group norm with at most eight groups."""
        affine = self.params.get(f"{at}/scale"), self.params.get(f"{at}/bias")
        return functional.group_norm(x, math.gcd(x.shape[1], 8), *affine, eps=EPSILON)

    def position(self, at: str) -> torch.Tensor:
        """The bias of every position, [c, h, w]."""
        return self.params[f"{at}/bias"].permute(2, 0, 1)


EPSILON = 1e-5


def tensor(path: str, array: np.ndarray) -> torch.Tensor:
    """An array of dlcore's in PyTorch's order of axes."""
    value = torch.from_numpy(np.array(array))
    if path.endswith("kernel") and value.ndim == 4:
        # Kernels of transposed convolutions have the axes [*window, out, in].
        return value.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    if path.endswith("kernel"):
        return value.T.contiguous()
    if value.ndim == 4:
        return value.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    return value


def flat(x: torch.Tensor) -> torch.Tensor:
    """Images to vectors, in dlcore's order of axes."""
    return x.permute(0, 2, 3, 1).flatten(1)


def unflat(x: torch.Tensor, channels: int, side: int) -> torch.Tensor:
    """And back."""
    return x.unflatten(1, (side, side, channels)).permute(0, 3, 1, 2)


def space_to_depth(x: torch.Tensor) -> torch.Tensor:
    """Blocks of 2 × 2 pixels to channels: by row, column and channel of the block."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
    return x.reshape(b, 4 * c, h // 2, w // 2).contiguous(memory_format=torch.channels_last)


def depth_to_space(x: torch.Tensor) -> torch.Tensor:
    """And back."""
    b, c, h, w = x.shape
    x = x.view(b, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(b, c // 4, 2 * h, 2 * w).contiguous(memory_format=torch.channels_last)
