"""Image files as exact 8-bit pixels: what cannot be had exactly is refused.

Transparent parts lie on white. Colour profiles are ignored: values are taken as they are stored.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dlcore.data._checks import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif")
"""Endings, in lower case, of the files that are read as images."""
TO_8_BITS = "save the images with 8 bits, or pass --image_size, which keeps the upper 8"
GREY = ("1", "L", "LA", "La")
COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX")
DAMAGE = (OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, struct.error)
"""What Pillow raises for broken files."""
ORIENTATION = 0x0112
PNG_GREY_ALPHA = 4
BITS_PER_SAMPLE, EXTRA_SAMPLES, SAMPLE_FORMAT = 258, 338, 339


class Header(NamedTuple):
    """What a file says of its image before any pixel is decoded."""

    size: tuple[int, int]
    """(height, width) of the upright image."""
    colour: bool
    """Whether its mode has colours; a palette and RGB do, whatever their values are."""
    transparent: bool
    """Whether pixels may be transparent."""
    frames: bool
    """Whether more than one image is in the file."""
    deep: bool
    """Whether it has 16 bits per channel, of which `decode` can keep the upper 8."""


def read_header(path: Path) -> Header:
    """The header of an image file; raises `DataError` like `decode`, except for damage behind the header."""
    from PIL.Image import Image

    with _opened(path) as image:
        width, height = image.size
        # The base method: that of a PNG would decode all pixels first. Pillow turns a TIFF itself.
        turned = image.format != "TIFF" and Image.getexif(image).get(ORIENTATION) in (5, 6, 7, 8)
        transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
        size = (width, height) if turned else (height, width)
        frames, (bits, grey) = getattr(image, "is_animated", False), _stored(path, image)
        return Header(size, not grey, transparent, frames, bits > 8)


def decode(path: Path, shape: tuple[int, ...] | None = None, *, image_size: int | None = None) -> np.ndarray:
    """The upright image in a file as uint8 [h, w, c], grey (c = 1) or RGB (c = 3); of several frames the first.

    The channels are those of `shape`, where one is given, else those of the file; grey becomes RGB by repetition.
    With `image_size` the image is made square (see `fit`), and of 16 bits per channel the upper 8 are kept, in colour
    or beside alpha. Raises `DataError` for a damaged file; for other pixels of more than 8 bits, CMYK, YCbCr, LAB and
    HSV, which have no exact form in 8-bit RGB; for a file in colour where grey is wanted; and for another shape than
    the one that is wanted.
    """
    with _opened(path) as image:
        bits, grey = _stored(path, image)
        if image_size is None and bits > 8:
            raise DataError(f"{path} has more than 8 bits per channel; {TO_8_BITS}")
        image.load()
        pixels = _upright(pixels_of(image, bits), image.getexif().get(ORIENTATION, 1))
        pixels = pixels[..., :1] if grey else pixels
    if shape is not None and shape[-1] < pixels.shape[-1]:
        raise DataError(f"{path} is in colour, others grey; it was changed, or convert it")
    if shape is not None and shape[-1] > pixels.shape[-1]:
        pixels = np.repeat(pixels, 3, -1)
    if image_size is not None:
        pixels = fit(pixels, image_size)
    if shape is not None and pixels.shape != shape:
        raise DataError(
            f"{path} is {pixels.shape[1]}×{pixels.shape[0]}, others {shape[1]}×{shape[0]}; "
            "resize all images alike or pass --image_size"
        )
    return pixels


@contextmanager
def _opened(path: Path) -> "Iterator[Image]":
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")) as image:
            _refuse(path, image)
            yield image
    except DataError:
        raise
    except (*DAMAGE, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be decoded ({error}); fetch it again or move it away") from None


def _refuse(path: Path, image: "Image") -> None:
    """Raise `DataError` for what Pillow would change on the way to grey or RGB, except for the lower bits of 16."""
    tags = getattr(image, "tag_v2", {})
    bits, _ = _stored(path, image)
    if image.mode[0] in "IF" or set(tags.get(SAMPLE_FORMAT, ())) - {1} or (bits > 8 and "transparency" in image.info):
        raise DataError(
            f"{path} has more than 8 bits per channel, or signed or real values ({image.mode}, {bits} bits); "
            "save the images with 8 bits, scaled as you want them"
        )
    if image.mode not in GREY + COLOUR:
        raise DataError(f"{path} is {image.mode}, which has no exact form in RGB; save the images as RGB")
    if image.mode == "RGBA" and 1 in tags.get(EXTRA_SAMPLES, ()):
        raise DataError(f"{path} is a TIFF of colours multiplied by alpha, read inexactly; save the images as PNG")


def _stored(path: Path, image: "Image") -> tuple[int, bool]:
    """Bits per sample, which the mode of a PNG or TIFF does not tell (8 for other kinds), and whether it is grey."""
    grey = image.mode in GREY
    if image.format == "TIFF":
        return max(image.tag_v2.get(BITS_PER_SAMPLE, (1,))), grey
    if image.format != "PNG":
        return 8, grey
    bits, kind = png_bits(path)
    # Grey with alpha of 16 bits is opened as RGBA.
    return bits, grey or kind == PNG_GREY_ALPHA


def png_bits(path: Path) -> tuple[int, int]:
    """Bits per sample and the colour type that the header of a PNG names."""
    with path.open("rb") as file:
        bits, kind = file.read(26)[24:]
    return bits, kind


def pixels_of(image: "Image", bits: int = 8) -> np.ndarray:
    """The pixels of a Pillow image as uint8 [h, w, 1] or [h, w, 3], transparent parts laid on white.

    c α/255 + 255 (1 − α/255) for colours c and opacities α of 0 to 255, to the nearest level. `bits` per sample are
    those of the file, in which a PNG names its transparent grey. Raises `DataError` for a mode that is not exact.
    """
    mode, key = image.mode, image.info.get("transparency")
    values = np.asarray(image)
    if mode in ("P", "PA"):
        return _of_palette(image, values)
    if mode in ("LA", "RGBA"):
        return _on_white(values[..., :-1], values[..., -1:])
    if mode in ("La", "RGBa"):
        return np.minimum(values[..., :-1], values[..., -1:]) + (255 - values[..., -1:])
    if mode not in ("1", "L", "RGB", "RGBX"):
        raise DataError(f"an image of mode {mode} has no exact form in 8-bit grey or RGB; save it as RGB")
    values = values.astype(np.uint8) * 255 if mode == "1" else values
    values = values[..., :3] if values.ndim == 3 else values[..., None]
    if key is None:
        return values
    # One level or colour that stands for transparent pixels.
    seen = (values != np.asarray(key) * (255 // (2**bits - 1))).any(-1, keepdims=True)
    return np.where(seen, values, np.uint8(255))


def _of_palette(image: "Image", values: np.ndarray) -> np.ndarray:
    own = image.palette is not None and image.palette.mode == "RGBA"
    colours = np.array(image.getpalette("RGBA" if own else "RGB"), np.uint8).reshape(-1, 4 if own else 3)
    index = values[..., 0] if image.mode == "PA" else values
    if index.max(initial=0) >= len(colours):
        raise DataError(f"a pixel has index {index.max()} in a palette of {len(colours)} colours")
    opacity = colours[:, 3].copy() if own else np.full(len(colours), 255, np.uint8)
    if isinstance(key := image.info.get("transparency"), bytes):
        given = np.frombuffer(key, np.uint8)[: len(opacity)]
        opacity[: len(given)] = given
    elif key is not None and key < len(opacity):
        opacity[key] = 0
    alpha = values[..., 1] if image.mode == "PA" else opacity[index]
    return _on_white(colours[index, :3], alpha[..., None])


def _on_white(values: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    # 255 is odd, so that no quotient lies half way between two levels; sums stay below 2^16.
    wide, alpha = values.astype(np.uint16), alpha.astype(np.uint16)
    return ((wide * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo the orientation of EXIF: where the first row and the first column of what is stored lie in the picture."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def fit(pixels: np.ndarray, size: int, *, nearest: bool = False) -> np.ndarray:
    """Resize uint8 [h, w, c] until its shorter side has `size` pixels, and cut out the middle: [size, size, c].

    Bilinear with antialiasing, which keeps within the range of the values, or by the `nearest` pixel, for numbers that
    have no mean. An image whose shorter side has the size already is only cut.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    short = min(height, width)
    if short != size:
        height, width = (max(size, round(side * size / short)) for side in (height, width))
        image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        kind = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        resized = np.asarray(image.resize((width, height), kind))
        pixels = resized.reshape(height, width, -1)
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])
