"""A real TFDS builder, prepared here without TensorFlow and read back."""

import io

import numpy as np
import pytest
from PIL import Image

from dlcore.data.source import DataError, load

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
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._examples(range(30)), "test": self._examples(range(30, 40))}

    def _examples(self, rows):
        for i in rows:
            yield i, {"image": png(IMAGES[i]), "label": i % 2}

    _generate_examples = _examples


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    TinyStripes(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


@pytest.mark.parametrize("in_memory", [True, False])
def test_pixels_labels_and_splits(data_dir, in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr("dlcore.data.tfds.IN_MEMORY_BYTES", 0)
    data = load("tfds:tiny_stripes", data_dir=data_dir, validation=6)
    assert data.spec.sizes == (24, 6, 10) and data.spec.class_names == ("left", "right")
    assert (data.train.arrays is not None) == in_memory
    parts = [split.read(np.arange(split.size)) for split in data[1:]]
    found = sorted((bytes(i), int(lab)) for part in parts for i, lab in zip(part["image"], part["label"], strict=True))
    assert found == sorted((bytes(image), i % 2) for i, image in enumerate(IMAGES))
    tests = sorted(map(bytes, parts[2]["image"]))
    assert tests == sorted(map(bytes, IMAGES[30:]))


def test_unknown_builder(data_dir):
    with pytest.raises(DataError, match="tfds:no_such_set is not ready"):
        load("tfds:no_such_set", data_dir=data_dir)
