"""Numbers and pictures of a fit reach TensorBoard, and any other writer; a trace of a few steps is written."""

import os
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from dlcore.train import run, session, stages, weights_and_biases
from dlcore.train._writers import TensorBoard

SETTINGS = ["widths=4", "train.steps=12", "train.log_every=2", "train.steps_per_dispatch=2", "train.eval_every=0.3"]


def events(folder):
    """{tag: [(step, value or picture)]} of all event files, read record by record."""
    found = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + length])
            for value in event.summary.value:
                found.setdefault(value.tag, []).append(
                    (event.step, value.image.encoded_image_string or value.simple_value)
                )
            at += 12 + length + 4
    return found


class Told:
    def __init__(self, folder, step):
        self.folder, self.scalars, self.images, self.closed = folder, {}, {}, False

    def scalar(self, name, value, step):
        self.scalars[name, step] = value

    def image(self, name, image, step):
        self.images[name, step] = image

    def close(self):
        self.closed = True


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    made = run.named("classify", preset="mlp", settings=SETTINGS, folder=tmp_path_factory.mktemp("runs") / "run")
    fit = made.system.stages["classifier"]
    grid = lambda params, state, key, num: np.linspace(0, 1, num * 4).reshape(num, 2, 2, 1)  # noqa: E731
    system = made.system._replace(stages={"classifier": fit._replace(sample=grid)})
    told = []

    def writer(folder, step):
        told.append(Told(folder, step))
        return told[-1]

    made = made._replace(system=system, writers=(writer,), profile=4)
    assert stages.execute(made)
    return session.OpenRun(made), told


@pytest.mark.slow
def test_tensorboard_has_grids_and_test_metrics(trained):
    opened, _ = trained
    found = events(opened.folder / "classifier")
    assert found["train/loss"] and found["validation/accuracy"]
    for name, value in opened.metrics.items():
        assert found[name] == [(12, pytest.approx(value, rel=1e-6))]
    steps = [step for step, _ in found["samples"]]
    assert steps == [6, 12] and all(picture.startswith(b"\x89PNG") for _, picture in found["samples"])


@pytest.mark.slow
def test_another_writer_is_told_the_same(trained):
    opened, (during, after) = trained
    found = events(opened.folder / "classifier")
    for tag in ("train/loss", "validation/nll_nats"):
        assert {(tag, step): pytest.approx(value, rel=1e-6) for step, value in found[tag]}.items() <= {
            key: value for key, value in during.scalars.items() if key[0] == tag
        }.items()
    assert {name for name, _ in after.scalars} == set(opened.metrics) and during.closed and after.closed
    assert [step for _, step in during.images] == [6, 12]
    assert all(picture.dtype == np.uint8 and picture.ndim == 3 for picture in during.images.values())


def test_two_writers_of_one_second_keep_their_events_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1e9)
    for step, value in ((0, 0.5), (12, 0.25)):
        writer = TensorBoard(tmp_path, step)
        writer.scalar(f"from/{step}", value, step + 1)
        writer.close()
    assert events(tmp_path) == {"from/0": [(1, 0.5)], "from/12": [(13, 0.25)]}


def test_a_trace_of_a_few_steps_is_written(trained):
    (trace,) = (trained[0].folder / "classifier" / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 1000


def test_weights_and_biases_are_told_what_their_package_takes(monkeypatch, tmp_path):
    """Against a stand-in for the package: what it is called with."""
    calls = []
    log = lambda values, step: calls.append(("log", values, step))  # noqa: E731
    made = types.SimpleNamespace(log=log, finish=lambda: calls.append(("finish",)))
    fake = types.SimpleNamespace(
        init=lambda **options: calls.append(("init", options)) or made, Image=lambda array: ("picture", array.shape)
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    writer = weights_and_biases("lecture")(tmp_path / "vae-digits-a=1" / "vae", 0)
    writer.scalar("train/loss", 0.5, 3)
    writer.image("samples", np.zeros((4, 5, 1), np.uint8), 3)
    writer.close()
    (_, options), *rest = calls
    assert options["project"] == "lecture" and options["name"] == "vae-digits-a=1/vae" and options["resume"] == "allow"
    assert options["id"] == "vae-digits-a-1-vae"
    assert rest == [("log", {"train/loss": 0.5}, 3), ("log", {"samples": ("picture", (4, 5))}, 3), ("finish",)]


def test_without_the_package_the_way_to_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match="DLCORE_EXTRAS=wandb"):
        weights_and_biases("lecture")(tmp_path / "run" / "vae", 0)


def test_pytorch_is_not_imported_for_events(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('PyTorch was imported')")
    program = (
        "import pathlib, sys\n"
        "from dlcore.train._writers import TensorBoard\n"
        f"TensorBoard(pathlib.Path({str(tmp_path / 'events')!r}), 0).close()\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert list((tmp_path / "events").iterdir())
