"""Many variations of the same images, a block at a time, so that memory does not grow with their number."""

from collections.abc import Iterator

import numpy as np


def in_blocks(function: str, count: int, rows: int, block: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(numbers [c], counted [c]) for the variations 0 … count − 1 of `rows` images, at most `block` images at once.

    A block has one variation of all images at least. All blocks have one size; what fills up the last one is not
    counted: 0 among ones. Raises `ValueError` unless `count` and `block` are positive.

    >>> [(numbers.tolist(), counted.tolist()) for numbers, counted in in_blocks("f", 3, 2, 4)]
    [([0, 1], [1.0, 1.0]), ([2, 2], [1.0, 0.0])]
    """
    if count < 1 or block < 1:
        raise ValueError(f"{function}: expected at least one variation and block ≥ 1, got {count} and block={block}")
    size = min(count, max(1, block // max(rows, 1)))
    for first in range(0, count, size):
        numbers = np.arange(first, first + size, dtype=np.int32)
        yield np.minimum(numbers, count - 1), (numbers < count).astype(np.float32)
