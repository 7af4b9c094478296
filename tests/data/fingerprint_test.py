"""What a data set was when a run began: stable where nothing changed, and telling what changed."""

import gzip
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from dlcore.data import SPLITS, Data, DataError, DataSpec, changes, in_memory, load, marked, with_splits
from dlcore.data import _folder as folder
from dlcore.data._fingerprint import of_array, of_files
from dlcore.train import check_data, check_identity, run
from dlcore.train._run_folder import LAYOUT, claim

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (30, 4, 4), dtype=np.uint8)
LABELS = np.arange(30, dtype=np.uint8) % 2


def classes(root, count=6):
    for i in range(2 * count):
        place = root / ("cat", "dog")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[i]).save(place / f"{i:02}.bmp")
    return root


def mark(name, **options):
    spec = load(name, **options).spec
    return json.loads(json.dumps(with_splits(spec.fingerprint, spec.sizes)))


def idx(path, prefix, images, labels):
    for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
        header = bytes((0, 0, 8, values.ndim)) + b"".join(n.to_bytes(4, "big") for n in values.shape)
        (path / f"{prefix}-{kind}-ubyte").write_bytes(header + values.tobytes())


def more(root):
    Image.fromarray(IMAGES[20]).save(root / "cat" / "new.bmp")


def fewer(root):
    (root / "dog" / "01.bmp").unlink()


def renamed(root):
    (root / "dog" / "01.bmp").rename(root / "dog" / "99.bmp")


def overwritten(root):
    """As many bytes as before."""
    Image.fromarray(IMAGES[21]).save(root / "dog" / "01.bmp")


def moved(root):
    (root / "dog" / "01.bmp").rename(root / "cat" / "01.bmp")


def another_class(root):
    shutil.copytree(root / "cat", root / "owl")


def no_class(root):
    shutil.copytree(root / "cat", root / "owl")
    shutil.rmtree(root / "dog")


FOLDER = {
    more: "class cat has 7 files, 6 when the run began",
    fewer: "class dog has 5 files, 6 when the run began",
    renamed: "class dog changed (as many, with other names or contents)",
    overwritten: "class dog changed (as many, with other names or contents)",
    moved: "class cat has 7 files, 6 when the run began",
    another_class: "class owl is new (6 files",
    no_class: "class dog is gone (6 files",
}


@pytest.mark.parametrize("change", FOLDER)
def test_changes_of_a_folder(tmp_path, change):
    root = classes(tmp_path / "set")
    before = mark(f"folder:{root}")
    assert mark(f"folder:{root}") == before
    change(root)
    text = "; ".join(changes(before, mark(f"folder:{root}")))
    assert FOLDER[change] in text and "split" not in text


@pytest.mark.parametrize("change", [more, fewer, renamed, another_class])
def test_changes_of_a_folder_too_large_for_memory(tmp_path, monkeypatch, change):
    monkeypatch.setattr(folder, "IN_MEMORY_BYTES", 0)
    root = classes(tmp_path / "set")
    before = mark(f"folder:{root}")
    change(root)
    assert FOLDER[change] in "; ".join(changes(before, mark(f"folder:{root}")))


def test_what_is_not_used_and_when_it_was_written_do_not_count(tmp_path):
    root = classes(tmp_path / "set")
    before = mark(f"folder:{root}")
    (root / "cat" / "notes.txt").write_text("text")
    os.utime(root / "cat" / "00.bmp", (1, 1))
    shutil.copytree(root, tmp_path / "copy")
    assert mark(f"folder:{root}") == before == mark(f"folder:{tmp_path / 'copy'}")


def test_changes_of_split_folders_name_the_split(tmp_path):
    for split in ("train", "test", "val"):
        classes(tmp_path / split)
    before = mark(f"folder:{tmp_path}")
    more(tmp_path / "test")
    assert changes(before, mark(f"folder:{tmp_path}"))[0].startswith("test: class cat has 7 files")


def test_changes_of_an_archive(tmp_path):
    def save(**changed):
        arrays = {"x_train": IMAGES[:20], "y_train": LABELS[:20], "x_test": IMAGES[20:], "y_test": LABELS[20:]}
        np.savez(tmp_path / "a.npz", **(arrays | changed))
        return mark(f"npz:{tmp_path / 'a.npz'}")

    before = save()
    assert save() == before
    pixel = IMAGES[:20].copy()
    pixel[7, 1, 2] ^= 1
    assert changes(before, save(x_train=pixel)) == ["x_train changed"]
    assert changes(before, save(y_test=1 - LABELS[20:])) == ["y_test changed"]
    (text, *_) = changes(before, save(x_test=IMAGES[20:28], y_test=LABELS[20:28]))
    assert text == "x_test has shape [8, 4, 4], [10, 4, 4] when the run began"
    added = changes(before, save(x_val=IMAGES[:4], y_val=LABELS[:4]))
    assert added == ["x_val is new (shape [4, 4, 4], dtype uint8)", "y_val is new (shape [4], dtype uint8)"]


def test_changes_of_idx_files(tmp_path):
    idx(tmp_path, "train", IMAGES[:20], LABELS[:20])
    idx(tmp_path, "t10k", IMAGES[20:], LABELS[20:])
    before = mark(f"idx:{tmp_path}")
    plain = tmp_path / "train-images-idx3-ubyte"
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    assert mark(f"idx:{tmp_path}") == before, "compressing a file changes nothing"
    idx(tmp_path, "t10k", IMAGES[20:], LABELS[20:][::-1].copy())
    assert changes(before, mark(f"idx:{tmp_path}")) == ["t10k-labels-idx1-ubyte changed"]


@pytest.mark.parametrize("name", ["digits", "spirals"])
def test_sets_that_come_with_the_library(name):
    assert mark(name) == mark(name) and len(mark(name)) > 3
    (text,) = {
        line.split(" split")[0] for line in changes(mark(name), mark(name, validation=7)) if "validation" in line
    }
    assert text == "validation"


def test_other_sizes_of_splits_are_a_change():
    same = {"x": of_array(IMAGES)}
    assert changes(with_splits(same, (20, 5, 5)), with_splits(same, (21, 4, 5))) == [
        "training split has 21 examples, 20 when the run began",
        "validation split has 4 examples, 5 when the run began",
    ]


def test_names_sizes_and_contents_do_not_run_together(tmp_path):
    digests = set()
    for i, files in enumerate(
        ({"a": "bc"}, {"ab": "c"}, {"a": "b", "c": ""}, {"a": "", "bc": ""}, {"a": "b", "b": "c"})
    ):
        (tmp_path / str(i)).mkdir()
        for name, text in files.items():
            (tmp_path / str(i) / name).write_text(text)
        paths = sorted((tmp_path / str(i)).iterdir())
        digests.add(of_files(tmp_path / str(i), paths, contents=True)["sha256"])
    assert len(digests) == 5


@pytest.mark.parametrize("change", [lambda x: x.astype(np.int16), lambda x: x.reshape(-1, 4), lambda x: x[::-1]])
def test_digest_of_an_array(change):
    assert of_array(IMAGES) == of_array(np.asfortranarray(IMAGES)) and of_array(change(IMAGES)) != of_array(IMAGES)


def test_many_changes_are_counted():
    old = {f"class {i}": {"files": 1} for i in range(9)}
    lines = changes(old, {})
    assert len(lines) == 6 and lines[-1] == "4 more"


def test_a_run_folder_refuses_other_data(tmp_path):
    old, new = ({"x": {"files": count, "sha256": str(count)}} for count in (60, 61))
    identity = {"experiment": "classify", "seed": 0}
    claim(tmp_path, {**identity, "fingerprint": old}, {"layout": LAYOUT})
    check_identity(tmp_path, {**identity, "fingerprint": old})
    check_data(tmp_path, old)
    for check in (
        lambda: check_data(tmp_path, new),
        lambda: check_identity(tmp_path, {**identity, "fingerprint": new}),
        lambda: claim(tmp_path, {**identity, "fingerprint": new}, {"layout": LAYOUT}),
    ):
        with pytest.raises(DataError, match=r"began with other data \(x has 61 files, 60 when the run began\)"):
            check()
    with pytest.raises(ValueError, match="seed: 0 in the folder, 1 asked for") as caught:
        check_identity(tmp_path, {**identity, "seed": 1, "fingerprint": new})
    assert "files" not in str(caught.value)


def test_arrays_at_hand_are_marked_as_files_are(tmp_path):
    """Data that was made without a fingerprint: another pixel, or another label, and the run is refused."""
    part = lambda: in_memory({"image": IMAGES[..., None].copy(), "label": LABELS.astype(np.int32)})  # noqa: E731
    spec = DataSpec("own", (4, 4, 1), 256, 2, ("a", "b"), (30, 30, 30), (0.5,), (0.3,))
    data = Data(spec, part(), part(), part())
    made = run.named("classify", data="own", preset="smoke", source=data, folder=tmp_path)
    claim(made.folder, made.identity(), {"layout": LAYOUT})
    check_data(tmp_path, run.named("classify", data="own", preset="smoke", source=data).identity()["fingerprint"])
    for split, name in (("train", "image"), ("test", "label")):
        other = part()
        other.arrays[name].flat[3] += 1
        changed = data._replace(**{split: other})
        with pytest.raises(DataError, match=f"{split}(ing)? {name}s changed"):
            made = run.named("classify", data="own", preset="smoke", source=changed, folder=tmp_path)
            check_identity(tmp_path, made.identity())
    assert marked(load("digits")).spec.fingerprint == load("digits").spec.fingerprint
    held = json.loads((tmp_path / "config.json").read_text())
    held["fingerprint"] = {name: held["fingerprint"][name] for name in SPLITS}
    (tmp_path / "config.json").write_text(json.dumps(held))
    check_data(tmp_path, made.identity()["fingerprint"])
    with pytest.raises(DataError, match="test split has 29 examples, 30 when the run began"):
        check_data(tmp_path, {**made.identity()["fingerprint"], "test split": {"examples": 29}})


def test_names_of_the_classes_of_masks_are_part_of_the_data(tmp_path):
    """Masks hold numbers: with other names, another order or one more the same files are other data."""
    for i in range(10):
        for kind, values in (("images", IMAGES[i]), ("masks", IMAGES[i] % 3)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(values).save(tmp_path / kind / f"{i}.png")
    without, file = mark(f"segments:{tmp_path}"), tmp_path / "classes.txt"
    file.write_text("ground\ncat\ndog\n")
    named = mark(f"segments:{tmp_path}")
    assert changes(without, named) == ["classes.txt is new (3 names)"] and changes(named, named) == []
    for text, told in {
        "ground\ndog\ncat\n": "classes.txt changed",
        "ground\ncat\nwolf\n": "classes.txt changed",
        "ground\ncat\ndog\nowl\n": "classes.txt has 4 names, 3 when the run began",
    }.items():
        file.write_text(text)
        assert changes(named, mark(f"segments:{tmp_path}")) == [told]
