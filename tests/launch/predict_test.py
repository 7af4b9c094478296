"""A trained classifier predicts images from files as it does those of its data set, or says why it cannot."""

import csv

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from dlcore.data import DataError, load, read_like
from dlcore.train import session
from launch import predict

SMALL = ["widths=16", "train.epochs=3", "train.batch_size=64"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return session.train("classify", preset="mlp", settings=SMALL, folder=folder)


@pytest.mark.slow
def test_files_are_classified_as_the_images_they_hold(trained, tmp_path):
    data = load("digits")
    rows = data.test.read(np.arange(40))
    for i, image in enumerate(rows["image"]):
        Image.fromarray(np.round(image[..., 0] * (255 / 16)).astype(np.uint8)).save(tmp_path / f"{i:02}.png")
    with flagsaver.flagsaver():
        flags.FLAGS(["predict", f"--workdir={trained.folder}", f"--images={tmp_path}", f"--out={tmp_path}/found"])
        predict.main()
    with (tmp_path / "found.csv").open(encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    standardised = (rows["image"] / 16 - np.asarray(data.spec.mean)) / np.asarray(data.spec.std)
    logits = np.asarray(trained.functions["predict"](trained.params, trained.state, standardised.astype(np.float32)))
    expected = np.exp(logits - logits.max(-1, keepdims=True))
    expected /= expected.sum(-1, keepdims=True)
    assert [row["class"] for row in found] == [data.spec.class_names[k] for k in logits.argmax(-1)]
    given = [[float(row[f"p({name})"]) for name in data.spec.class_names] for row in found]
    np.testing.assert_allclose(given, expected, atol=2e-5)
    assert (tmp_path / "found.png").stat().st_size > 1000


def test_levels_are_the_nearest_and_sizes_are_fitted(tmp_path):
    spec = load("digits").spec
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    Image.fromarray(ramp).save(tmp_path / "a.png")
    Image.fromarray(ramp.repeat(2, 0).repeat(2, 1)).save(tmp_path / "b.png")
    small, large = read_like([tmp_path / "a.png", tmp_path / "b.png"], spec)
    np.testing.assert_array_equal(small[..., 0], np.round(ramp / 255 * 16))
    assert small.dtype == np.uint8 and np.abs(small.astype(int) - large).max() <= 1


@pytest.mark.slow
def test_what_cannot_be_predicted_is_said(trained, tmp_path):
    with pytest.raises(ValueError, match="expected images"):
        trained.predict(np.zeros((2, 9, 8, 1), np.uint8))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "colour.png")
    with pytest.raises(DataError, match="colour"):
        read_like([tmp_path / "colour.png"], trained.run.spec)
    for given, message in ((f"--images={tmp_path}/none", "not a folder"), ("--data_dir=x", "pass --images")):
        with flagsaver.flagsaver():
            flags.FLAGS(["predict", f"--workdir={trained.folder}", given])
            with pytest.raises(ValueError, match=message):
                predict.main()


def test_names_that_are_no_text_are_written_all_the_same(tmp_path):
    """A folder or a file may be called by any bytes."""
    names = ("caf\udce9", "a,b", "new\nline", '"')
    found = np.asarray([[0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]])
    predict.write_csv(tmp_path / "out.csv", [tmp_path / "x\udcff.png", tmp_path / "y.png"], found, names)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][3:] == ["p(caf\\udce9)", "p(a,b)", "p(new\nline)", 'p(")']
    assert [row[:3] for row in rows[1:]] == [
        [f"{tmp_path}/x\\udcff.png", '"', "0.400000"],
        [f"{tmp_path}/y.png", "caf\\udce9", "0.700000"],
    ]
