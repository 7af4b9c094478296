"""Folders of images: what is used, what is said, and which split an image is in."""

import os

import numpy as np
import pytest
from PIL import Image

from dlcore.data import DataError, load
from dlcore.data import _folder as folder
from tests.data.png_by_hand import png

RNG = np.random.default_rng(0)


def put(path, mode="RGB", size=(4, 4), value=None):
    """One image of random or given pixels; the mode in which it is stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (
        RNG.integers(0, 256, (*size[::-1], 3), dtype=np.uint8) if value is None else np.full((*size[::-1], 3), value)
    )
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path)
    return path


def fill(root, count=10, names=("cat", "dog"), **options):
    for name in names:
        for i in range(count):
            put(root / name / f"{i:02}.png", **options)
    return root


def notes(root, **options):
    return load(f"folder:{root}", **options).spec.notes


def used(data):
    return sum(data.spec.sizes)


def test_nothing_to_say_about_a_plain_folder(tmp_path):
    assert notes(fill(tmp_path)) == ()


def test_images_in_subfolders_and_of_every_ending_are_used(tmp_path):
    fill(tmp_path)
    for i, ending in enumerate(("PNG", "bmp", "TIF", "tiff", "webp", "gif", "JPG", "jpeg")):
        put(tmp_path / "cat" / f"other{i}.{ending}")
    put(tmp_path / "dog" / "summer" / "2024" / "a.png")
    put(tmp_path / "dog" / "winter" / "00.png")
    data = load(f"folder:{tmp_path}")
    assert used(data) == 30 and data.spec.notes == ("2 of 30 images lie in folders below a class and count to it",)
    assert data.spec.classes == 2


def test_links_are_followed_once_and_said(tmp_path):
    fill(tmp_path / "set")
    put(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "set" / "dog" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "dog" / "round").symlink_to(tmp_path / "set" / "dog")
    (tmp_path / "set" / "cat" / "again.png").symlink_to(tmp_path / "set" / "cat" / "00.png")
    data = load(f"folder:{tmp_path / 'set'}")
    assert used(data) == 22
    assert any("1 of 22 images are links to others" in note for note in data.spec.notes)


def test_files_that_are_not_used_are_counted(tmp_path):
    fill(tmp_path)
    for name in ("cat/a.txt", "cat/b.TXT", "dog/c.pdf", "dog/LICENSE", "dog/d.svg"):
        (tmp_path / name).write_text("text")
    put(tmp_path / "loose.png")
    put(tmp_path / "cat" / ".hidden.png")
    put(tmp_path / "cat" / ".checkpoints" / "00.png")
    (note,) = notes(tmp_path)
    assert note.startswith("files that are not used: 8 (")
    for part in ("2 .txt", "1 .pdf", "1 without ending", "1 .svg", "2 hidden images", "1 images outside the folders"):
        assert part in note


@pytest.mark.parametrize("name", ["val", "valid", "Validation"])
def test_a_validation_folder_is_the_validation_split(tmp_path, name):
    fill(tmp_path / "train", value=10)
    fill(tmp_path / name, 3, value=20)
    fill(tmp_path / "test", 2, value=30)
    data = load(f"folder:{tmp_path}")
    assert data.spec.sizes == (20, 6, 4) and data.spec.notes == ()
    assert [np.unique(split.arrays["image"]).tolist() for split in data[1:]] == [[10], [20], [30]]
    asked = load(f"folder:{tmp_path}", validation=5)
    assert asked.spec.sizes == (15, 5, 4)
    assert f"{name}/ (6 images) is not used, as validation=5" in asked.spec.notes[0]


def test_training_and_validation_folders_only(tmp_path):
    fill(tmp_path / "train", value=10)
    fill(tmp_path / "val", 3, value=20)
    data = load(f"folder:{tmp_path}")
    assert data.spec.sizes == (16, 6, 4) and data.spec.class_names == ("cat", "dog")
    assert [np.unique(split.arrays["image"]).tolist() for split in data[1:]] == [[10], [20], [10]]
    assert data.spec.notes == ("there is no test folder: a fixed fifth of train/ (4 of 20 images) is the test split",)


def test_a_training_folder_only(tmp_path):
    data = load(f"folder:{fill(tmp_path / 'Train').parent}")
    assert data.spec.sizes == (15, 1, 4) and "a fixed fifth of Train/ (4 of 20 images)" in data.spec.notes[0]


def test_what_lies_beside_the_splits_is_said(tmp_path):
    for name in ("train", "test", "extra"):
        fill(tmp_path / name)
    put(tmp_path / "a.png")
    assert notes(tmp_path) == (
        "extra/ (20 images) is not used, as it lies beside train/",
        "images that are not used, as they lie beside train/: 1",
    )


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, names=("boat", "plane", "train"))
    assert load(f"folder:{tmp_path}").spec.class_names == ("boat", "plane", "train")


@pytest.mark.parametrize("names", [("cat", "dog", "test"), ("cat", "val"), ("test", "val"), ("extra", "train")])
def test_a_split_beside_classes_is_no_class(tmp_path, names):
    for name in names:
        fill(
            tmp_path / name if name in folder.SPLITS else tmp_path,
            names=("cat", "dog") if name in folder.SPLITS else (name,),
        )
    with pytest.raises(
        DataError, match=r"holds folders, as a split does, .* put the folders of classes into .*train, or"
    ):
        load(f"folder:{tmp_path}")


def test_two_validation_folders_are_refused(tmp_path):
    for name in ("train", "val", "valid"):
        fill(tmp_path / name)
    with pytest.raises(DataError, match=r"several validation folders \(val, valid\)"):
        load(f"folder:{tmp_path}")


def test_one_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="one class only, 'cat'; put images of a second class"):
        load(f"folder:{fill(tmp_path, names=('cat',))}")


def test_a_class_without_images_says_what_is_there(tmp_path):
    fill(tmp_path)
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl" / "owl.svg").write_text("<svg/>")
    with pytest.raises(DataError, match=r"owl has no image \(files: 1, none of \.png"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize("grey_first", [True, False])
def test_the_set_decides_between_grey_and_colour(tmp_path, grey_first):
    fill(tmp_path, 6, mode="L")
    put(tmp_path / ("dog" if grey_first else "cat") / "00.png", "RGB")
    data = load(f"folder:{tmp_path}")
    assert data.spec.shape == (4, 4, 3)
    assert data.spec.notes == ("11 of 12 images are grey and become RGB, as the rest has colours",)
    assert load(f"folder:{fill(tmp_path / 'grey', mode='L')}").spec.shape == (4, 4, 1)


def test_colour_goes_by_the_mode_not_the_pixels(tmp_path):
    assert load(f"folder:{fill(tmp_path, mode='RGB', value=7)}").spec.shape == (4, 4, 3)


def test_transparent_images_are_said(tmp_path):
    fill(tmp_path, 5)
    put(tmp_path / "cat" / "a.png", "RGBA")
    assert notes(tmp_path) == ("1 of 11 images may be transparent; those parts are laid on white",)


def test_several_frames_are_said(tmp_path):
    fill(tmp_path, 5)
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "cat" / "a.gif", save_all=True, append_images=frames[1:])
    assert notes(tmp_path) == ("1 of 11 files hold several frames; the first is used",)


def test_odd_sizes_are_counted_and_mended(tmp_path):
    fill(tmp_path)
    put(tmp_path / "dog" / "a.png", size=(4, 60), value=50)
    put(tmp_path / "dog" / "b.png", size=(3, 3), value=60)
    with pytest.raises(
        DataError, match=r"2 of 22 images are not 4×4 \(the first: .*a\.png, 4×60\); pass --image_size=4"
    ):
        load(f"folder:{tmp_path}")
    plain = load(f"folder:{fill(tmp_path / 'plain')}").train.arrays["image"]
    sized = load(f"folder:{tmp_path / 'plain'}", image_size=4)
    np.testing.assert_array_equal(sized.train.arrays["image"], plain)
    assert sized.spec.notes == ()
    (tmp_path / "plain").rename(tmp_path.parent / "plain")
    mended = load(f"folder:{tmp_path}", image_size=4)
    assert mended.spec.notes == ("2 of 22 images are resized and cut to 4×4",) and used(mended) == 22
    flat = [image for split in mended[1:] for image in split.arrays["image"] if np.ptp(image) == 0]
    assert sorted(int(image[0, 0, 0]) for image in flat) == [50, 60]


def test_deep_images_are_counted(tmp_path):
    fill(tmp_path)
    png(tmp_path / "cat" / "a.png", RNG.integers(0, 2**16, (4, 4, 3)), 16, 2)
    with pytest.raises(DataError, match=r"1 of 21 images have more than 8 bits per channel \(the first: .*a\.png"):
        load(f"folder:{tmp_path}")
    assert notes(tmp_path, image_size=4) == ("1 of 21 images have 16 bits per channel, of which the upper 8 are kept",)


def test_damaged_images_are_counted(tmp_path):
    fill(tmp_path)
    for name in ("cat/00.png", "dog/01.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 of 20 images cannot be used, the first: .*cat/00\.png cannot be decoded"):
        load(f"folder:{tmp_path}")


@pytest.mark.parametrize(("name", "size", "text"), [
    ("digits", 8, "image_size=8 is for folder:, segments: and tfds:, and digits has images of one size"),
    ("npz:a.npz", 8, "is for folder:, segments: and tfds:"),
    ("two_moons", 8, "is for folder:, segments: and tfds:"),
    ("folder:x", 0, "image_size must be 1 to 4096 pixels, got 0"),
    ("tfds:x", -3, "got -3"),
])  # fmt: skip
def test_image_sizes_that_are_refused(name, size, text):
    with pytest.raises(DataError, match=text):
        load(name, image_size=size)


def test_the_split_is_a_function_of_the_names(tmp_path, monkeypatch):
    """Whatever order the operating system lists files in."""
    fill(tmp_path, names=("b", "a", "C"))
    put(tmp_path / "a" / "deep" / "x.png")
    before = load(f"folder:{tmp_path}")
    walk, scan = os.walk, type(tmp_path).iterdir

    def turned(*args, **options):
        for place, folders, files in walk(*args, **options):
            folders.sort(reverse=True)
            yield place, folders, sorted(files, reverse=True)

    monkeypatch.setattr(folder.os, "walk", turned)
    monkeypatch.setattr(type(tmp_path), "iterdir", lambda self: iter(sorted(scan(self), reverse=True)))
    after = load(f"folder:{tmp_path}")
    assert before.spec == after.spec and before.spec.class_names == ("C", "a", "b")
    for one, other in zip(before[1:], after[1:], strict=True):
        np.testing.assert_array_equal(one.arrays["image"], other.arrays["image"])


def test_read_as_needed_equals_in_memory(tmp_path, monkeypatch):
    fill(tmp_path / "train", 12)
    fill(tmp_path / "val", 3)
    put(tmp_path / "train" / "cat" / "a.png", "LA", (9, 6))
    whole = load(f"folder:{tmp_path}", image_size=4)
    monkeypatch.setattr(folder, "IN_MEMORY_BYTES", 0)
    lazy = load(f"folder:{tmp_path}", image_size=4)
    assert lazy.train.arrays is None and lazy.spec._replace(fingerprint={}) == whole.spec._replace(fingerprint={})
    for one, other in zip(whole[1:], lazy[1:], strict=True):
        for name, value in one.arrays.items():
            np.testing.assert_array_equal(other.all()[name], value)


@pytest.mark.skipif(
    not os.path.isdir("/usr/share/icons/oxygen/base/32x32"), reason="oxygen-icon-theme is not installed"
)
@pytest.mark.slow
def test_oxygen_icons():
    name = "folder:/usr/share/icons/oxygen/base/32x32"
    with pytest.raises(DataError, match=r"images are not 32×32 .* pass --image_size=32"):
        load(name)
    data = load(name, image_size=32)
    assert data.spec.shape == (32, 32, 3) and data.spec.classes == 10 and used(data) > 1400
    corners = np.concatenate([split.arrays["image"][:, 0, 0] for split in data[1:]])
    assert (corners == 255).all(-1).mean() > 0.9, "transparent corners are white"


def test_images_without_classes_lie_in_the_folder_itself(tmp_path):
    for i in range(20):
        put(tmp_path / f"{i:02}.png", value=i)
    (tmp_path / "notes.txt").write_text("x")
    put(tmp_path / ".hidden.png")
    data = load(f"folder:{tmp_path}")
    assert data.spec.classes is None and data.spec.class_names == () and data.spec.sizes == (15, 1, 4)
    assert "there are no folders of classes: 20 images without labels" in data.spec.notes
    assert "files that are not used: 2 (1 .txt, 1 hidden images)" in data.spec.notes
    values = [int(v) for part in data[1:] for v in part.arrays["image"][:, 0, 0, 0]]
    assert sorted(values) == list(range(20)) and set(data.train.arrays) == {"image"}
    assert set(data.spec.fingerprint) == {"images"}


def test_splits_without_classes_and_streamed_ones(tmp_path, monkeypatch):
    for split, count in (("train", 12), ("test", 5)):
        for i in range(count):
            put(tmp_path / split / f"{i:02}.png", value=i + (100 if split == "test" else 0))
    monkeypatch.setattr(folder, "IN_MEMORY_BYTES", 0)
    data = load(f"folder:{tmp_path}", validation=2)
    assert data.spec.sizes == (10, 2, 5) and data.train.arrays is None and data.spec.classes is None
    assert set(data.test.read(np.arange(5))) == {"image"}
    np.testing.assert_array_equal(data.test.read(np.arange(5))["image"][:, 0, 0, 0], np.arange(100, 105))
    put(tmp_path / "test" / "cat" / "a.png")
    with pytest.raises(DataError, match="has a class 'cat', and the training split has none"):
        load(f"folder:{tmp_path}")


def test_one_folder_of_images_says_how_it_is_used_without_labels(tmp_path):
    fill(tmp_path, names=("cat",))
    with pytest.raises(
        DataError, match=r"one class only, 'cat'; .* pass folder:.*/cat to a system that needs no labels"
    ):
        load(f"folder:{tmp_path}")
    assert load(f"folder:{tmp_path / 'cat'}").spec.sizes == (8, 0, 2)
