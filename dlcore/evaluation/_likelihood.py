"""One ruler for every density: nats per image and bits per dimension on the same split (lecture 3.8, 28).

bits/dim = nats / (D ln 2), where D counts the sub-pixels and nats = −ln P(x) of the discrete image. A density model of
dequantised pixels y = (x + u)/levels in [0, 1]^D reaches it through −ln P(x) ≤ E_u[−ln p(y)] + D ln(levels).

**Of what.** Three different numbers go by the name of likelihood where images have classes: −ln p(x) of a model without
classes; −ln p(x|y) of a conditional one, which was told something that a code would have to send as well; and
−ln p(x, y) = −ln p(x|y) + ln C (see `joint_nats`), which never lies below −ln p(x) of the same model.
"""

import io
import lzma
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from dlcore.operands import equal_shapes


class Nats(NamedTuple):
    """Sums over images of −ln P(x), of its square and of ones; they add up over batches."""

    total: Float[Array, ""]
    square: Float[Array, ""]
    count: Float[Array, ""]

    @staticmethod
    def of(nats: Float[Array, " n"], where: Bool[Array, " n"]) -> "Nats":
        """The sums over the images that `where` marks, of `nats` per image. Raises `ValueError` for another shape."""
        equal_shapes("Nats.of", nats=nats, where=where)
        where = where.astype(bool)
        kept = jnp.where(where, nats.astype(jnp.float32), 0.0)
        return Nats(kept.sum(), jnp.square(kept).sum(), where.sum(dtype=jnp.float32))


def bits_per_dim(nats: Array | float, dims: int) -> Array | float:
    """nats / (D ln 2), D being the number of sub-pixels. Raises `ValueError` unless D is a whole number above 0."""
    if np.ndim(dims) or dims < 1 or dims != int(dims):
        raise ValueError(f"bits_per_dim: dims must be how many sub-pixels an image has, got {dims}")
    return nats / (int(dims) * math.log(2))


def joint_nats(nats: Array | float, classes: int) -> Array | float:
    """−log p(x, y) = −log p(x|y) + log C for C equally frequent classes, which never lies below −log p(x).

    Without classes (C = 0 or 1) nothing is added.
    """
    return nats + math.log(max(classes, 1))


def summary(sums: Nats, dims: int) -> dict[str, float]:
    """Mean nats per image and bits/dim, and the standard error of either over images.

    A 95 % confidence interval is the mean ± 1.96 standard errors. Raises `ValueError` when no image was counted.
    """
    total, square, count = (float(x) for x in sums)
    if count < 1:
        raise ValueError("summary: no image was counted; the mean of none is not defined")
    mean = total / count
    variance = max(square / count - mean**2, 0.0) * count / max(count - 1, 1)
    stderr = math.sqrt(variance / count)
    return {
        "nll_nats": mean,
        "nll_nats_stderr": stderr,
        "bits_per_dim": bits_per_dim(mean, dims),
        "bits_per_dim_stderr": bits_per_dim(stderr, dims),
    }


def histogram_bits(train: UInt8[np.ndarray, "n ..."], test: UInt8[np.ndarray, "m ..."], levels: int) -> float:
    """Bits/dim of the model with independent sub-pixels: smoothed counts (c + 1)/(n + levels) of the training split.

    Raises `ValueError` for splits of different images, and for grey levels that there are not.
    """
    equal_shapes("histogram_bits", train=train[:1], test=test[:1])
    if max(train.max(), test.max()) >= levels:
        raise ValueError(f"histogram_bits: levels={levels}, but a grey level is {max(train.max(), test.max())}")
    columns, own = train.reshape(len(train), -1), test.reshape(len(test), -1)
    counts = np.stack([np.bincount(column, minlength=levels) for column in columns.T])
    log2 = np.log2((counts + 1) / (len(columns) + levels))
    return float(-log2[np.arange(own.shape[1]), own].mean())


def png_bits(images: UInt8[np.ndarray, "n h w c"], levels: int) -> float:
    """Bits/dim of one PNG file per image, headers included; grey levels are stretched over 0 … 255."""
    from PIL import Image

    def size(image: np.ndarray) -> int:
        buffer = io.BytesIO()
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "PNG", optimize=True)
        return buffer.tell()

    stretched = np.round(images * (255 / (levels - 1))).astype(np.uint8)
    return sum(map(size, stretched)) * 8 / images.size


def xz_bits(images: UInt8[np.ndarray, "n h w c"]) -> float:
    """Bits/dim of the whole split as one xz file, at the strongest setting."""
    return len(lzma.compress(images.tobytes(), preset=9 | lzma.PRESET_EXTREME)) * 8 / images.size


def baselines(train: UInt8[np.ndarray, "n h w c"], test: UInt8[np.ndarray, "m h w c"], levels: int) -> dict[str, float]:
    """Bits/dim of the test split by codes that no network learns: what a density has to beat."""
    return {
        "histogram_bits_per_dim": histogram_bits(train, test, levels),
        "png_bits_per_dim": png_bits(test, levels),
        "xz_bits_per_dim": xz_bits(test),
    }
