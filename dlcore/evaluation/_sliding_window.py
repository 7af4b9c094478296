"""Networks from images to images on images that are larger than memory: window by window (lecture 25)."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Shaped

Predict = Callable[[Any], Any]
"""`[b, height, width, c] -> [b, height, width, k]`, for windows of one size."""


class _Axis(NamedTuple):
    """Where windows lie along one side of an image."""

    size: int
    window: int
    starts: list[int]
    weights: list[Float[np.ndarray, " window"]]
    """Of each window; those over a pixel sum to 1."""


def sliding_window(
    predict: Predict,
    image: Shaped[Array, "h w c"] | Shaped[np.ndarray, "h w c"],
    window: int | tuple[int, int],
    *,
    overlap: float = 0.5,
    margin: int = 0,
    multiple: int = 1,
    batch: int = 4,
) -> Float[np.ndarray, "h w k"]:
    """`predict` on one image, `batch` windows at a time: Σ_w g_w f_w/Σ_w g_w over those that hold a pixel.

    g is a Gaussian around the middle of a window, of standard deviation window/8 (Isensee et al. 2021), and 0 within
    `margin` pixels of a side of the window that is not a side of the image. Neighbouring windows share the fraction
    `overlap` of their side, or more. `predict` sees windows of one shape: memory on the device does not depend on the
    size of the image, which may be a memory-mapped array; the host holds the result.

    Where `margin` covers how far an output sees, and windows start at a `multiple` of what the network's sides must be
    divided by, the result is that of the whole image. The image is padded by its border up to that multiple and to the
    window, as `dlcore.nn.padded` does, and the result cropped. Normalisation over space, as group norm has it, sees a
    whole window however large the margin is.

    Raises `ValueError` unless 0 ≤ overlap < 1, for a window that is no multiple of `multiple`, and for margins that
    leave nothing of it.

    >>> image = np.arange(35.0).reshape(5, 7, 1)
    >>> bool(np.allclose(sliding_window(lambda x: x, image, 4), image))
    True
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"sliding_window: overlap must lie in [0, 1), got {overlap}")
    if batch < 1 or multiple < 1 or margin < 0:
        raise ValueError(f"sliding_window: batch={batch} and multiple={multiple} must be ≥ 1, margin={margin} ≥ 0")
    if np.ndim(image) != 3 or 0 in np.shape(image):
        raise ValueError(f"sliding_window: expected one image [h, w, c], got shape {np.shape(image)}")
    sides = (window, window) if isinstance(window, int) else window
    rows, columns = (
        _axis(size, side, overlap, margin, multiple) for size, side in zip(image.shape[:2], sides, strict=True)
    )
    places = [(i, j) for i in range(len(rows.starts)) for j in range(len(columns.starts))]
    result = None
    for first in range(0, len(places), batch):
        some = places[first : first + batch]
        # The last batch is filled up, so that there is one shape.
        tiles = [_tile(image, rows, columns, *place) for place in (some + [some[-1]] * (batch - len(some)))]
        outputs = np.asarray(predict(np.stack(tiles)))
        if outputs.shape[:3] != (batch, rows.window, columns.window):
            raise ValueError(
                f"sliding_window: predict gave {outputs.shape} for windows {np.shape(tiles)}; it must keep the sides"
            )
        if result is None:
            result = np.zeros((*image.shape[:2], outputs.shape[-1]), np.result_type(outputs.dtype, np.float32))
        for place, output in zip(some, outputs, strict=False):
            _add(result, output, rows, columns, *place)
    return result


def _axis(size: int, window: int, overlap: float, margin: int, multiple: int) -> _Axis:
    if window < 1 or window % multiple:
        raise ValueError(f"sliding_window: window {window} must be a multiple of {multiple}, and at least 1")
    whole = -(-size // multiple) * multiple
    stride = max(int(window * (1 - overlap)) // multiple, 1) * multiple
    starts = list(_starts(whole, window, stride))
    gap = max(np.diff(starts), default=0)
    if gap > window - 2 * margin:
        most = (window - int(gap)) // 2
        raise ValueError(
            f"sliding_window: windows of {window} every {gap} pixels leave gaps with margin={margin}; use at most "
            f"{most}, more overlap or a larger window"
        )
    bell = np.exp(-0.5 * ((np.arange(window) - (window - 1) / 2) / max(window / 8, 1e-6)) ** 2)
    # Far from the middle of a large window floats would end at 0.
    bell = np.maximum(bell, 1e-12)
    weights, total = [], np.zeros(max(whole, window))
    for start in starts:
        own = bell.copy()
        own[: margin if start else 0] = 0
        own[window - margin if start + window < whole else window :] = 0
        total[start : start + window] += own
        weights.append(own)
    return _Axis(size, window, starts, [w / total[s : s + window] for s, w in zip(starts, weights, strict=True)])


def _starts(size: int, window: int, stride: int) -> Iterator[int]:
    """Windows every `stride` pixels, and one that ends with the image."""
    last = max(size - window, 0)
    yield from range(0, last, stride)
    yield last


def _tile(image: Any, rows: _Axis, columns: _Axis, i: int, j: int) -> np.ndarray:
    top, left = rows.starts[i], columns.starts[j]
    tile = np.asarray(image[top : top + rows.window, left : left + columns.window])
    lacking = (rows.window - tile.shape[0], columns.window - tile.shape[1])
    return np.pad(tile, ((0, lacking[0]), (0, lacking[1]), (0, 0)), mode="edge") if any(lacking) else tile


def _add(result: np.ndarray, output: np.ndarray, rows: _Axis, columns: _Axis, i: int, j: int) -> None:
    top, left = rows.starts[i], columns.starts[j]
    weight = rows.weights[i][:, None, None] * columns.weights[j][:, None]
    height, width = min(rows.window, rows.size - top), min(columns.window, columns.size - left)
    # What a margin leaves out may be anything, and must not count even if it is not finite.
    share = np.where(weight > 0, output * weight, 0)[:height, :width]
    result[top : top + height, left : left + width] += share.astype(result.dtype)
