"""Pooling that keeps the cells at the high side (lecture 14.6)."""

from jaxtyping import Array, Float

from dlcore.nn.pool import max_pool
from dlcore.types import Input, Key, Model, Params, State


def ceil_width(n: int, window: int, stride: int) -> int:
    """Cells to add at the high side so that ⌈(n − window)/stride⌉ + 1 windows fit (PyTorch's `ceil_mode`).

    A window that would start outside the input is left out.
    """
    count = -(-max(n - window, 0) // stride) + 1
    if (count - 1) * stride >= n:
        count -= 1
    return max((count - 1) * stride + window - n, 0)


def max_pool_ceil(x: Float[Array, "b *space c"], window: int, stride: int) -> Float[Array, "b *out c"]:
    """`max_pool` with a last window that may reach beyond the input; a size n becomes ⌈(n − window)/stride⌉ + 1."""
    return max_pool(x, window, stride=stride, padding=[(0, ceil_width(n, window, stride)) for n in x.shape[1:-1]])


def MaxPoolCeil(window: int, stride: int) -> Model:
    """Layer of `max_pool_ceil`."""

    def apply(
        params: Params, state: State, x: Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Array, State]:
        return max_pool_ceil(x, window, stride), state

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return {}, {}

    return Model(init, apply)
