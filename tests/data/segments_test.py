"""Folders of images with masks: what is read, and what is refused with the fix (lecture 25)."""

import numpy as np
import pytest
from PIL import Image

from dlcore.data import DataError, load

RNG = np.random.default_rng(0)


def pairs(root, count, side=8, classes=3, colour=True, start=0):
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        image = RNG.integers(0, 256, (side, side, 3) if colour else (side, side)).astype(np.uint8)
        mask = RNG.integers(0, classes, (side, side)).astype(np.uint8)
        mask[0, 0] = 255
        mask[0, 1] = classes - 1
        Image.fromarray(image).save(root / "images" / f"{i}.png")
        Image.fromarray(mask).save(root / "masks" / f"{i}.png")


@pytest.fixture
def folder(tmp_path):
    pairs(tmp_path / "train", 20)
    pairs(tmp_path / "test", 6, start=30)
    return tmp_path


def test_pairs_are_read_exactly(folder):
    data = load(f"segments:{folder}", validation=4)
    assert data.spec.sizes == (16, 4, 6) and data.spec.shape == (8, 8, 3)
    assert data.spec.classes is None and data.spec.mask_classes == 3 and data.spec.class_names == ("0", "1", "2")
    for row in range(6):
        stored = data.test.read(np.array([row]))
        np.testing.assert_array_equal(stored["image"][0], Image.open(folder / "test" / "images" / f"{30 + row}.png"))
        np.testing.assert_array_equal(stored["mask"][0], Image.open(folder / "test" / "masks" / f"{30 + row}.png"))
    assert set(data.spec.fingerprint) == {"train images", "train masks", "test images", "test masks"}


def test_one_folder_alone_lends_a_fifth_and_names_are_read(tmp_path):
    pairs(tmp_path, 20, classes=2, colour=False)
    (tmp_path / "classes.txt").write_text("ground\nleaf\nstone\n")
    data = load(f"segments:{tmp_path}")
    assert data.spec.sizes == (14, 2, 4) or data.spec.sizes == (15, 1, 4)
    assert data.spec.class_names == ("ground", "leaf", "stone") and data.spec.shape == (8, 8, 1)
    read = [load(f"segments:{tmp_path}").test.arrays["mask"] for _ in range(2)]
    np.testing.assert_array_equal(*read)


def test_masks_with_a_palette_or_one_bit_are_numbers(tmp_path):
    pairs(tmp_path, 6)
    numbers = RNG.integers(0, 3, (8, 8)).astype(np.uint8)
    image = Image.fromarray(numbers, "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(tmp_path / "masks" / "0.png")
    Image.fromarray(numbers == 1).save(tmp_path / "masks" / "1.png")
    rows = load(f"segments:{tmp_path}", validation=0)
    stored = np.concatenate([rows.train.arrays["mask"], rows.test.arrays["mask"]])
    assert (stored == numbers).all((1, 2)).any() and (stored == (numbers == 1)).all((1, 2)).any()


def test_image_size_makes_masks_square_by_the_nearest_pixel(folder):
    data = load(f"segments:{folder}", image_size=16)
    assert data.test.arrays["image"].shape == (6, 16, 16, 3)
    masks = data.test.arrays["mask"]
    np.testing.assert_array_equal(masks[:, ::2, ::2], load(f"segments:{folder}").test.arrays["mask"])
    assert set(np.unique(masks)) <= {0, 1, 2, 255}, "no numbers between classes"


def spoil_mask(kind):
    def spoil(folder):
        path = folder / "train" / "masks" / "3.png"
        path.unlink()
        if kind == "colour":
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
        elif kind == "deep":
            Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)
        elif kind == "size":
            Image.fromarray(np.zeros((8, 9), np.uint8)).save(path)
        elif kind == "broken":
            path.write_bytes(b"no image")

    return spoil


def spoil_test_class(folder):
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(folder / "test" / "masks" / "30.png")


def spoil_names(folder):
    (folder / "train" / "masks" / "odd.png").write_bytes((folder / "train" / "masks" / "3.png").read_bytes())


def spoil_images(folder):
    for path in (folder / "test" / "masks").iterdir():
        path.unlink()
    (folder / "test" / "masks").rmdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_mask("gone"), "1 of 20 files in .*train have no mask .*add 3.png"),
        (spoil_mask("colour"), "RGB of 8 bits, and a mask holds class numbers: save a grey PNG"),
        (spoil_mask("deep"), "of 16 bits, and a mask holds class numbers"),
        (spoil_mask("size"), r"3.png is 9×8, its image 8×8"),
        (spoil_mask("broken"), "cannot be read as a PNG"),
        (spoil_test_class, "has class 7, and there are 3 classes, 0 to 2"),
        (spoil_names, "1 of 21 files in .*train have no image"),
        (spoil_images, "test has no folder masks; put images/ and masks/ into it"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_fix(folder, spoil, message):
    spoil(folder)
    with pytest.raises(DataError, match=message):
        load(f"segments:{folder}")


def test_no_folder_at_all(tmp_path):
    with pytest.raises(DataError, match="is not a folder; pass segments:DIR"):
        load(f"segments:{tmp_path / 'nowhere'}")
