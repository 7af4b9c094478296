"""Images and archives on disk: formats, modes, and damage at every byte."""

import io

import numpy as np
import pytest
from PIL import Image

from dlcore.data import DataError, load
from dlcore.data import _folder as folder
from dlcore.data._decode import decode
from dlcore.data._files import read_idx

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (24, 6, 5, 3), dtype=np.uint8)


def fill(folder, images, suffix="png"):
    for i, image in enumerate(images):
        place = folder / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{i:02}.{suffix}")


def test_given_test_folder_is_the_test_split(tmp_path):
    fill(tmp_path / "train", COLOUR[:16])
    fill(tmp_path / "test", COLOUR[16:])
    data = load(f"folder:{tmp_path}", validation=4)
    assert data.spec.sizes == (12, 4, 8) and data.spec.shape == (6, 5, 3) and data.spec.class_names == ("a", "b")
    assert sorted(map(bytes, data.test.arrays["image"])) == sorted(map(bytes, COLOUR[16:]))
    np.testing.assert_array_equal(data.test.arrays["label"], [0] * 4 + [1] * 4)
    pixels = data.train.arrays["image"] / 255
    np.testing.assert_allclose(data.spec.mean, pixels.mean((0, 1, 2)), rtol=1e-12)


def test_test_folder_must_have_the_training_classes(tmp_path):
    fill(tmp_path / "train", COLOUR[:4])
    fill(tmp_path / "test", COLOUR[4:5])
    with pytest.raises(DataError, match=r"test/b has no image"):
        load(f"folder:{tmp_path}")
    fill(tmp_path / "test", COLOUR[4:6])
    (tmp_path / "test" / "c").mkdir()
    with pytest.raises(DataError, match="class 'c' that the training split lacks"):
        load(f"folder:{tmp_path}")


def test_jpeg_is_read_as_pillow_reads_it(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 8, dtype=np.uint8)[None, :, None], (8, 8, 3))
    fill(tmp_path, [smooth] * 10, "JPG")
    data = load(f"folder:{tmp_path}", validation=0)
    assert np.abs(data.train.arrays["image"][0].astype(int) - smooth).max() < 12, "JPEG loses a little"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_truncated_image_is_refused_or_complete(tmp_path, kind):
    buffer, path = io.BytesIO(), tmp_path / "x"
    Image.fromarray(COLOUR[0]).save(buffer, kind)
    path.write_bytes(buffer.getvalue())
    whole = decode(path, None)
    refused = 0
    for keep in range(len(buffer.getvalue())):
        path.write_bytes(buffer.getvalue()[:keep])
        try:
            np.testing.assert_array_equal(decode(path, whole.shape), whole)
        except DataError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused >= len(buffer.getvalue()) - 24, "only the empty trailer of a PNG can go missing unseen"


def test_every_truncation_of_an_idx_file(tmp_path):
    path = tmp_path / "x"
    data = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (2, 3, 2)) + bytes(range(12))
    path.write_bytes(data)
    np.testing.assert_array_equal(read_idx(path), np.arange(12).reshape(2, 3, 2))
    for keep in range(len(data)):
        path.write_bytes(data[:keep])
        with pytest.raises(DataError, match="fetch it again"):
            read_idx(path)
    for wrong in (data + b"\0", b"\1" + data[1:], data[:2] + b"\x0d" + data[3:], data[:3] + b"\0" + data[4:]):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match=str(path)):
            read_idx(path)


def test_gzip_with_a_flipped_byte(tmp_path):
    import gzip

    path = tmp_path / "x.gz"
    data = bytearray(gzip.compress(b"\0\0\x08\x01\0\0\x01\0" + bytes(256), mtime=0))
    data[-6] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(path)


def test_what_is_no_npz_archive(tmp_path):
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        np.save(file, COLOUR)
    for damage in (path.read_bytes(), b"some text", b""):
        path.write_bytes(damage)
        with pytest.raises(DataError, match="damaged or no NPZ file"):
            load(f"npz:{path}")
    with pytest.raises(DataError, match="does not exist or is no file"):
        load(f"npz:{tmp_path}")


def test_a_large_folder_is_not_decoded_at_start(tmp_path, monkeypatch):
    fill(tmp_path, COLOUR)
    monkeypatch.setattr(folder, "IN_MEMORY_BYTES", 0)
    data = load(f"folder:{tmp_path}", validation=4)
    tests = data.test.read(np.arange(data.test.size))["image"]
    rows = np.concatenate([part.read(np.arange(part.size))["image"] for part in data[1:]])
    assert sorted(map(bytes, rows)) == sorted(map(bytes, COLOUR)) and tests.shape == (4, 6, 5, 3)
    pixels = data.train.read(np.arange(data.train.size))["image"] / 255
    np.testing.assert_allclose(data.spec.std, pixels.std((0, 1, 2)), rtol=1e-12)
    assert {k: v.shape for k, v in data.train.read(np.arange(0)).items()} == {"image": (0, 6, 5, 3), "label": (0,)}
    with pytest.raises(DataError, match="validation=20 of 20 training examples"):
        load(f"folder:{tmp_path}", validation=20)
