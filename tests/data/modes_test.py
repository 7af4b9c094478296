"""Every mode and bit depth of an image file: exact, laid on white, or refused; expected pixels by hand."""

import struct
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from dlcore.data import DataError
from dlcore.data._decode import decode, fit, pixels_of, read_header
from tests.data.png_by_hand import png

RNG = np.random.default_rng(0)


def on_white(colour, alpha):
    """round(c α/255 + 255 (1 − α/255)) in rational numbers."""
    return [int(Fraction(c * a + 255 * (255 - a), 255) + Fraction(1, 2)) for c, a in zip(colour, alpha, strict=True)]


def samples(bits, channels):
    return RNG.integers(0, 2**bits, (3, 5, channels))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_grey_of_every_depth(tmp_path, bits, transparent):
    rows = samples(bits, 1)
    key = int(rows[1, 2, 0])
    path = png(tmp_path / "x.png", rows, bits, 0, transparency=struct.pack(">H", key) if transparent else None)
    expected = [
        [255 if transparent and value == key else value * 255 // (2**bits - 1) for value in row]
        for row in rows[..., 0].tolist()
    ]
    np.testing.assert_array_equal(decode(path)[..., 0], expected)
    assert read_header(path) == ((3, 5), False, transparent, False, False)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparent", [False, True])
def test_palettes_of_every_depth(tmp_path, bits, transparent):
    colours, rows = RNG.integers(0, 256, (2**bits, 3)), samples(bits, 1)
    given = RNG.integers(0, 256, max(1, 2**bits - 1))  # the last colour has none, so is opaque
    opacity = [*given.tolist(), 255] if transparent else [255] * 2**bits
    path = png(
        tmp_path / "x.png",
        rows,
        bits,
        3,
        palette=colours.reshape(-1).tolist(),
        transparency=bytes(given.tolist()) if transparent else None,
    )
    expected = [[on_white(colours[i].tolist(), [opacity[i]] * 3) for i in row] for row in rows[..., 0].tolist()]
    np.testing.assert_array_equal(decode(path), expected)
    assert read_header(path) == ((3, 5), True, transparent, False, False)


def test_colours_and_alpha(tmp_path):
    rgb, la, rgba = samples(8, 3), samples(8, 2), samples(8, 4)
    np.testing.assert_array_equal(decode(png(tmp_path / "rgb.png", rgb, 8, 2)), rgb)
    key = rgb[2, 1]
    path = png(tmp_path / "key.png", rgb, 8, 2, transparency=struct.pack(">HHH", *key.tolist()))
    expected = np.where((rgb == key).all(-1, keepdims=True), 255, rgb)
    np.testing.assert_array_equal(decode(path), expected)
    expected = [[on_white(pixel[:1], pixel[1:]) for pixel in row] for row in la.tolist()]
    np.testing.assert_array_equal(decode(png(tmp_path / "la.png", la, 8, 4)), expected)
    expected = [[on_white(pixel[:3], pixel[3:] * 3) for pixel in row] for row in rgba.tolist()]
    np.testing.assert_array_equal(decode(png(tmp_path / "rgba.png", rgba, 8, 6)), expected)


def test_every_opacity_of_every_level():
    levels, alphas = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    image = Image.fromarray(np.stack([levels, alphas], -1).astype(np.uint8), "LA")
    exact = (levels * alphas + 255 * (255 - alphas)) / 255
    assert np.abs(pixels_of(image)[..., 0] - exact).max() < 0.5


@pytest.mark.parametrize("kind", [0, 2, 4, 6])
def test_sixteen_bits_are_refused_or_asked_for(tmp_path, kind):
    rows = samples(16, {0: 1, 2: 3, 4: 2, 6: 4}[kind])
    path = png(tmp_path / "deep.png", rows, 16, kind)
    with pytest.raises(DataError, match=r"deep\.png has more than 8 bits per channel.*; save the images with 8"):
        decode(path)
    if kind == 0:
        with pytest.raises(DataError, match="more than 8 bits"):
            decode(path, image_size=3)
        return
    assert read_header(path).deep
    upper = rows[:, 1:4] >> 8  # the middle of 3×5
    flat = upper.reshape(9, -1).tolist()
    expected = flat if kind == 2 else [on_white(pixel[:-1], pixel[-1:] * (len(pixel) - 1)) for pixel in flat]
    np.testing.assert_array_equal(decode(path, image_size=3).reshape(9, -1), expected)
    key = struct.pack(">HHH", *rows[0, 0, :3].tolist()) if kind == 2 else None
    if key:
        with pytest.raises(DataError, match="more than 8 bits"):
            decode(png(path, rows, 16, kind, transparency=key), image_size=3)


PIXELS = {
    # mode: one stored pixel, and what is seen on white; premultiplied colours add what the ground lets through
    "1": (1, [255]),
    "L": (7, [7]),
    "LA": ((100, 51), [224]),  # 100/5 + 255·4/5
    "La": ((20, 51), [224]),
    "RGB": ((1, 2, 3), [1, 2, 3]),
    "RGBX": ((1, 2, 3, 9), [1, 2, 3]),
    "RGBA": ((100, 0, 255, 51), [224, 204, 255]),
    "RGBa": ((20, 0, 51, 51), [224, 204, 255]),
}
REFUSED = ("CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "I;16B", "I;16L", "F")


@pytest.mark.parametrize("mode", PIXELS)
def test_pixels_of_every_mode(mode):
    stored, seen = PIXELS[mode]
    image = Image.new(mode, (2, 3), 0)
    image.putpixel((1, 2), stored)
    found = pixels_of(image)
    assert found.shape == (3, 2, len(seen)) and found.dtype == np.uint8
    np.testing.assert_array_equal(found[2, 1], seen)


@pytest.mark.parametrize("mode", REFUSED)
def test_modes_without_exact_form_are_refused(mode):
    with pytest.raises(DataError, match=f"mode {mode} has no exact form"):
        pixels_of(Image.new(mode, (2, 3)))


def palette_image(mode, entries, indices, kind):
    image = Image.new(mode, (len(indices), 1))
    image.putpalette(entries, kind)
    for x, index in enumerate(indices):
        image.putpixel((x, 0), index)
    return image


def test_palettes_in_memory():
    entries = [10, 20, 30, 200, 100, 0]
    np.testing.assert_array_equal(
        pixels_of(palette_image("P", entries, [0, 1], "RGB"))[0], [[10, 20, 30], [200, 100, 0]]
    )
    single = palette_image("P", entries, [0, 1], "RGB")
    single.info["transparency"] = 1
    np.testing.assert_array_equal(pixels_of(single)[0], [[10, 20, 30], [255, 255, 255]])
    own = palette_image("P", [10, 20, 30, 255, 200, 100, 0, 51], [0, 1], "RGBA")
    np.testing.assert_array_equal(pixels_of(own)[0], [[10, 20, 30], [244, 224, 204]])
    alpha = palette_image("PA", entries, [(1, 51), (0, 255)], "RGB")
    np.testing.assert_array_equal(pixels_of(alpha)[0], [[244, 224, 204], [10, 20, 30]])


def test_a_palette_that_is_too_short(tmp_path):
    path = png(tmp_path / "x.png", np.array([[[0], [3]]]), 2, 3, palette=[1, 2, 3, 4, 5, 6])
    with pytest.raises(DataError, match="index 3 in a palette of 2 colours"):
        decode(path)


def saved(path, image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("kind", ["bmp", "tiff", "webp", "gif", "png"])
def test_other_formats(tmp_path, kind):
    rgb = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    image = Image.fromarray(rgb) if kind != "gif" else palette_image("P", list(range(12)), [0, 2, 1, 3], "RGB")
    options = {"lossless": True} if kind == "webp" else {}
    found = decode(saved(tmp_path / f"x.{kind.upper()}", image, **options))
    expected = rgb if kind != "gif" else np.arange(12).reshape(4, 3)[[0, 2, 1, 3]][None]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "F", "I", "I;16"])
def test_tiffs_that_are_refused(tmp_path, mode):
    path = saved(tmp_path / "x.tiff", Image.new(mode, (2, 3)))
    for size in (None, 2):
        with pytest.raises(DataError, match=r"x\.tiff (is|has)"):
            decode(path, image_size=size)


def test_a_tiff_of_many_bits_or_signs(tmp_path):
    """Pillow would read these as plain 8-bit images."""
    from PIL import TiffImagePlugin

    grey = Image.new("L", (2, 3), 200)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[339] = 2
    with pytest.raises(DataError, match="signed or real values"):
        decode(saved(tmp_path / "x.tiff", grey, tiffinfo=tags))
    # 16-bit RGB, written out by hand: 1×1 pixel at byte 8, the directory after it.
    pixel = struct.pack("<3H", 0x1234, 0x5678, 0x9ABC)
    bits = 8 + len(pixel)
    entries = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 8)]
    entries += [(277, 3, 1, 3), (278, 3, 1, 1), (279, 4, 1, len(pixel))]
    data = pixel + struct.pack("<3H", 16, 16, 16)
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    (tmp_path / "deep.tiff").write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)
    with pytest.raises(DataError, match="more than 8 bits per channel"):
        decode(tmp_path / "deep.tiff")
    np.testing.assert_array_equal(decode(tmp_path / "deep.tiff", image_size=1), [[[0x12, 0x56, 0x9A]]])


def test_jpeg_of_inks_is_refused(tmp_path):
    with pytest.raises(DataError, match="is CMYK, which has no exact form in RGB"):
        decode(saved(tmp_path / "x.jpg", Image.new("CMYK", (8, 8))))


# Where the first row and the first column of what is stored lie in the picture (EXIF 2.3, tag 0x0112).
PLACES = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ["png", "webp", "tiff", "jpeg"])
@pytest.mark.parametrize("orientation", PLACES)
def test_orientation(tmp_path, kind, orientation):
    stored = RNG.integers(0, 256, (2, 3, 3), dtype=np.uint8)
    if kind == "jpeg":
        stored = np.full((16, 24, 3), 255, np.uint8)
        stored[:8, :8] = 0
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "webp" else {"quality": 95} if kind == "jpeg" else {}
    path = saved(tmp_path / f"x.{kind}", Image.fromarray(stored), exif=exif, **options)
    height, width = stored.shape[:2]
    row_side, column_side = PLACES[orientation]
    swapped = row_side in ("left", "right")
    expected = np.zeros((width, height, 3) if swapped else (height, width, 3), np.uint8)
    for r in range(height):
        for c in range(width):
            along_rows = r if row_side in ("top", "left") else height - 1 - r
            along_columns = c if column_side in ("top", "left") else width - 1 - c
            expected[(along_columns, along_rows) if swapped else (along_rows, along_columns)] = stored[r, c]
    found = decode(path)
    np.testing.assert_allclose(found, expected, atol=3 if kind == "jpeg" else 0)
    assert read_header(path).size == expected.shape[:2]


@pytest.mark.parametrize("kind", ["gif", "png", "tiff", "webp"])
def test_the_first_of_several_frames(tmp_path, kind):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "webp" else {}
    path = saved(tmp_path / f"x.{kind}", frames[0], save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode(path), np.broadcast_to(np.uint8([255, 0, 0]), (4, 4, 3)))
    assert read_header(path).frames


def test_grey_from_colour_never_happens_silently(tmp_path):
    grey = saved(tmp_path / "grey.png", Image.new("L", (5, 6), 9))
    colour = saved(tmp_path / "colour.png", Image.new("RGB", (5, 6), (9, 9, 9)))
    np.testing.assert_array_equal(decode(grey, (6, 5, 3)), np.full((6, 5, 3), 9))
    with pytest.raises(DataError, match=r"colour\.png is in colour, others grey"):
        decode(colour, (6, 5, 1))


@pytest.mark.parametrize(("height", "width"), [(6, 9), (9, 6), (7, 10), (6, 6), (6, 90)])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_of_the_size_is_only_cut(height, width, channels):
    image = RNG.integers(0, 256, (height, width, channels), dtype=np.uint8)
    if min(height, width) == 6:
        top, left = (height - 6) // 2, (width - 6) // 2
        np.testing.assert_array_equal(fit(image, 6), image[top : top + 6, left : left + 6])
    assert fit(image, 4).shape == (4, 4, channels)


def test_resizing_is_antialiased_and_keeps_the_proportions():
    # One black column in ten: without antialiasing, columns would be black or white.
    stripes = np.full((40, 120, 1), 255, np.uint8)
    stripes[:, ::10] = 0
    assert np.ptp(fit(stripes, 4)[..., 0].astype(int)) < 20 and abs(fit(stripes, 4).mean() - 229.5) < 4
    # A triangle filter as wide as four pixels, by hand: halves of the outer two, then quarters of eight.
    ramp = np.arange(0, 160, 10, dtype=np.uint8)[None, :, None].repeat(16, 0)
    weights = np.maximum(0, 1 - np.abs((np.arange(16) + 0.5) / 4 - np.array([[0.5], [1.5], [2.5], [3.5]])))
    expected = weights @ np.arange(0, 160, 10) / weights.sum(1)
    np.testing.assert_allclose(fit(ramp, 4)[0, :, 0], expected, atol=0.51)
    # The middle of an image three times as wide as high.
    thirds = np.repeat(np.uint8([0, 100, 200]), 8)[None, :, None].repeat(8, 0)
    np.testing.assert_array_equal(fit(thirds, 8), np.full((8, 8, 1), 100))


def test_what_lies_under_transparent_pixels_does_not_bleed(tmp_path):
    rows = np.zeros((8, 8, 4), np.uint8)
    rows[:, :4] = (255, 0, 0, 0)
    rows[:, 4:] = (0, 0, 255, 255)
    for name, hidden in (("red", (255, 0, 0, 0)), ("black", (0, 0, 0, 0))):
        rows[:, :4] = hidden
        saved(tmp_path / f"{name}.png", Image.fromarray(rows))
    red, black = (decode(tmp_path / f"{name}.png", image_size=3) for name in ("red", "black"))
    np.testing.assert_array_equal(red, black)
    # Premultiplied colours and opacities resized apart, over white.
    alpha = fit(np.ascontiguousarray(rows[..., 3:]), 3).astype(int)
    blue = fit(np.ascontiguousarray(np.where(rows[..., 3:] > 0, rows[..., :3], 0).astype(np.uint8)), 3)
    np.testing.assert_allclose(red, blue.astype(int) + 255 - alpha, atol=1)
