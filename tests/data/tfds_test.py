"""A real TFDS builder, prepared here without TensorFlow and read back."""

import io
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from dlcore.data import DataError, load

tfds = pytest.importorskip("tensorflow_datasets")

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 1), dtype=np.uint8)


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image[..., 0]).save(buffer, "PNG")
    return buffer.getvalue()


class TinyStripes(tfds.core.GeneratorBasedBuilder):
    """Forty random images."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        label = tfds.features.ClassLabel(names=["left", "right"])
        features = {"image": tfds.features.Image(shape=(6, 5, 1), encoding_format="png"), "label": label}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._examples(range(30)), "test": self._examples(range(30, 40))}

    def _examples(self, rows):
        for i in rows:
            yield i, {"image": png(IMAGES[i]), "label": i % 2}

    _generate_examples = _examples


class HeldStripes(TinyStripes):
    """The same images with a validation split; `damaged` cuts one of the images short."""

    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("whole", "damaged")]  # noqa: RUF012

    def _split_generators(self, dl_manager):
        splits = {"train": range(20), "validation": range(20, 30), "test": range(30, 40)}
        return {name: self._examples(rows) for name, rows in splits.items()}

    def _examples(self, rows):
        for i, example in super()._examples(rows):
            if i == 33 and self.builder_config.name == "damaged":
                example["image"] = example["image"][:60]
            yield i, example


class Deep(tfds.core.GeneratorBasedBuilder):
    """Images of 16 bits, or labels that are no classes."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("deep", "real", "single")]  # noqa: RUF012

    def _info(self):
        kind = self.builder_config.name
        dtype = np.uint16 if kind == "deep" else np.uint8
        image = tfds.features.Image(shape=(6, 5, 1), dtype=dtype, encoding_format="png")
        label = tfds.features.Scalar(np.int64) if kind == "real" else tfds.features.ClassLabel(num_classes=2)
        features = tfds.features.FeaturesDict({"image": image, "label": label})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        names = ["train"] if self.builder_config.name == "single" else ["train", "test"]
        return {name: self._generate_examples() for name in names}

    def _generate_examples(self):
        for i in range(4):
            yield i, {"image": png(IMAGES[i]), "label": i % 2}


class Sizes(tfds.core.GeneratorBasedBuilder):
    """Colour images, some of another size or with opacities; a test split and one that is no split of ours."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name) for name in ("colour", "alpha")]  # noqa: RUF012

    def _info(self):
        channels = {"colour": 3, "alpha": 4}[self.builder_config.name]
        image = tfds.features.Image(shape=(None, None, channels), encoding_format="png")
        features = tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(num_classes=4)})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples() for name in ("train", "test", "bonus")}

    def _generate_examples(self):
        mode = {"colour": "RGB", "alpha": "RGBA"}[self.builder_config.name]
        for i in range(10):
            buffer = io.BytesIO()
            Image.new(mode, (12, 8) if i in (3, 5) else (8, 8), (i, 20, 30)).save(buffer, "PNG")
            yield i, {"image": buffer.getvalue(), "label": i % 3}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    TinyStripes(data_dir=folder, file_format="array_record").download_and_prepare()
    for config in ("whole", "damaged"):
        HeldStripes(config=config, data_dir=folder, file_format="array_record").download_and_prepare()
    for config in ("deep", "real", "single"):
        Deep(config=config, data_dir=folder, file_format="array_record").download_and_prepare()
    for config in ("colour", "alpha"):
        Sizes(config=config, data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.mark.parametrize("in_memory", [True, False])
def test_pixels_labels_and_splits(data_dir, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr("dlcore.data._tfds.IN_MEMORY_BYTES", 0)
    data = load("tfds:tiny_stripes", data_dir=data_dir, validation=6)
    assert data.spec.sizes == (24, 6, 10) and data.spec.class_names == ("left", "right")
    assert (data.train.arrays is not None) == in_memory
    parts = [split.read(np.arange(split.size)) for split in data[1:]]
    found = sorted((bytes(i), int(lab)) for part in parts for i, lab in zip(part["image"], part["label"], strict=True))
    assert found == sorted((bytes(image), i % 2) for i, image in enumerate(IMAGES))
    tests = sorted(map(bytes, parts[2]["image"]))
    assert tests == sorted(map(bytes, IMAGES[30:]))


def test_unknown_builder(data_dir):
    with pytest.raises(DataError, match="tfds:no_such_set is not ready") as caught:
        load("tfds:no_such_set", data_dir=data_dir)
    assert len(str(caught.value).splitlines()) == 1


def test_the_command_that_is_told_prepares_a_builder(tmp_path, monkeypatch):
    """Run word for word, in this process, where the builder of this file is registered."""
    with pytest.raises(DataError, match="prepare it: python -c 'import tensorflow_datasets") as caught:
        load("tfds:tiny_stripes", data_dir=tmp_path / "new's")
    program, code = shlex.split(str(caught.value).split("prepare it: ")[1])[1:]
    assert program == "-c"
    exec(code, {})
    assert sum(load("tfds:tiny_stripes", data_dir=tmp_path / "new's").spec.sizes) == 40


@pytest.mark.parametrize("in_memory", [True, False])
def test_the_builders_own_validation_split(data_dir, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr("dlcore.data._tfds.IN_MEMORY_BYTES", 0)
    data = load("tfds:held_stripes/whole", data_dir=data_dir)
    assert data.spec.sizes == (20, 10, 10) and (data.validation.arrays is not None) == in_memory
    for split, rows in zip(data[1:], (range(20), range(20, 30), range(30, 40)), strict=True):
        found = split.read(np.arange(split.size))
        assert sorted(map(bytes, found["image"])) == sorted(bytes(IMAGES[i]) for i in rows)
    np.testing.assert_allclose(data.spec.mean, IMAGES[:20].mean() / 255, rtol=1e-12)
    asked = load("tfds:held_stripes/whole", data_dir=data_dir, validation=3)
    assert asked.spec.sizes == (17, 3, 10), "a number that is asked for leaves the training split"


def test_no_row_of_a_streamed_split(data_dir, monkeypatch):
    monkeypatch.setattr("dlcore.data._tfds.IN_MEMORY_BYTES", 0)
    data = load("tfds:tiny_stripes", data_dir=data_dir, validation=0)
    empty = data.validation.read(np.arange(0))
    assert empty["image"].shape == (0, 6, 5, 1) and empty["label"].dtype == np.int32


def test_a_damaged_image_names_the_set(data_dir):
    with pytest.raises(DataError, match="tfds:held_stripes/damaged has an image that cannot be decoded"):
        load("tfds:held_stripes/damaged", data_dir=data_dir)


@pytest.mark.parametrize(
    ("config", "text"), [("deep", "uint16 images"), ("real", "a label that is no class"), ("single", "test missing")]
)
def test_what_cannot_be_used(data_dir, config, text):
    with pytest.raises(DataError, match=text):
        load(f"tfds:deep/{config}", data_dir=data_dir)


@pytest.mark.slow
def test_a_prepared_set_is_read_without_tensorflow_or_the_builders_code(data_dir):
    code = (
        "import sys; from dlcore.data import load; "
        f"print(load('tfds:tiny_stripes', data_dir={str(data_dir)!r}).spec.sizes, 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["(27, 3, 10) False"], done.stderr


@pytest.mark.parametrize("in_memory", [True, False])
def test_images_of_several_sizes(data_dir, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr("dlcore.data._tfds.IN_MEMORY_BYTES", 0)
    with pytest.raises(DataError, match=r"2 of 10 train images are not 8×8 \(the first: 12×8\); pass --image_size=8"):
        load("tfds:sizes/colour", data_dir=data_dir, validation=0)
    data = load("tfds:sizes/colour", data_dir=data_dir, validation=0, image_size=8)
    reds = sorted(data.train.read(np.arange(10))["image"][:, 7, 7, 0].tolist())
    assert data.spec.shape == (8, 8, 3) and reds == list(range(10))
    assert data.spec.notes[0] == "splits that are not used: bonus (10 examples)"
    resized = "4 of 20 images are resized" if in_memory else "images of other sizes are resized"
    assert f"{resized} and cut to 8×8" in data.spec.notes[1]
    if in_memory:
        assert data.spec.notes[2] == "1 of 4 classes have no training example: 3"
    with pytest.raises(DataError, match="images of 4 channels; only 1"):
        load("tfds:sizes/alpha", data_dir=data_dir)


def test_an_image_of_the_size_is_the_same_with_and_without_it(data_dir):
    plain = load("tfds:tiny_stripes", data_dir=data_dir)
    cut = load("tfds:tiny_stripes", data_dir=data_dir, image_size=5)
    np.testing.assert_array_equal(cut.test.arrays["image"], plain.test.arrays["image"][:, :5])


def test_fingerprint(data_dir, monkeypatch):
    first = load("tfds:tiny_stripes", data_dir=data_dir).spec.fingerprint
    assert first == load("tfds:tiny_stripes", data_dir=data_dir).spec.fingerprint
    assert first["builder"] == {"name": "tiny_stripes/1.0.0"} and first["tfds split train"]["examples"] == 30
    assert first["train images"]["sha256"] != first["test images"]["sha256"]
    monkeypatch.setattr("dlcore.data._tfds.IN_MEMORY_BYTES", 0)
    assert load("tfds:tiny_stripes", data_dir=data_dir).spec.fingerprint.keys() == {
        "builder", "tfds split train", "tfds split test",
    }  # fmt: skip
