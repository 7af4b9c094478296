"""Pooling that keeps the cells at the high side (lecture 14.6)."""

from jaxtyping import Array, Shaped

from dlcore.nn._function import Function
from dlcore.nn._pool import max_pool
from dlcore.nn._window import Sizes, check_window, per_axis
from dlcore.types import Model


def ceil_width(n: int, window: int, stride: int) -> int:
    """Cells to add at the high side so that ⌈(n − window)/stride⌉ + 1 windows fit (PyTorch's `ceil_mode`).

    A window that would start outside the input is left out.
    """
    count = -(-max(n - window, 0) // stride) + 1
    if (count - 1) * stride >= n:
        count -= 1
    return max((count - 1) * stride + window - n, 0)


def max_pool_ceil(x: Shaped[Array, "b *space c"], window: Sizes, stride: Sizes) -> Shaped[Array, "b *out c"]:
    """`max_pool` with a last window that may reach beyond the input; a size n becomes ⌈(n − window)/stride⌉ + 1."""
    windows, strides = per_axis(window, x.ndim - 2, "window"), per_axis(stride, x.ndim - 2, "stride")
    sizes = zip(x.shape[1:-1], windows, strides, strict=True)
    return max_pool(x, windows, stride=strides, padding=[(0, ceil_width(n, w, s)) for n, w, s in sizes])


def MaxPoolCeil(window: Sizes, stride: Sizes) -> Model:
    """Layer of `max_pool_ceil`. Raises `ValueError` for sizes that are none."""
    check_window("MaxPoolCeil", window=window, stride=stride)
    return Function(lambda x: max_pool_ceil(x, window, stride), "max_pool_ceil")
