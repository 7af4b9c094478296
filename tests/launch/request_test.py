"""The data of a run: told when it is loaded, remembered in the run folder, and refused when it changed."""

import json
import shutil

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from dlcore.data import DataError
from dlcore.train import check_identity, read_json
from dlcore.train._run_folder import claim
from launch import report, request


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(24):
        place = tmp_path / "set" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9 if i == 3 else 8, 8), dtype=np.uint8)).save(place / f"{i:02}.png")
    return tmp_path / "set"


def asked(*arguments):
    """The run that a command line asks for."""
    with flagsaver.flagsaver():
        flags.FLAGS(["test", *arguments])
        return request.from_flags()


def held(workdir):
    """The run that a folder holds, as eval and sample see it."""
    with flagsaver.flagsaver():
        flags.FLAGS(["test", f"--workdir={workdir}"])
        return request.from_folder(flags.FLAGS.workdir)


@pytest.fixture
def begun(images, tmp_path):
    line = ("--experiment=classify", f"--data=folder:{images}", f"--workdir={tmp_path / 'run'}")
    run = asked(*line, "--image_size=8")
    run.folder.mkdir()
    claim(run.folder, run.identity(), run.notes())
    return run, line


def test_the_size_is_remembered(begun):
    run, line = begun
    assert read_json(run.folder / "config.json")["image_size"] == 8
    for again in (held(run.folder), asked(f"--workdir={run.folder}"), asked(*line), asked(*line, "--image_size=8")):
        assert again.names["image_size"] == 8 and again.identity() == run.identity()
        check_identity(again.folder, again.identity())
    other = asked(*line, "--image_size=4")
    assert other.spec.shape == (4, 4, 1)
    with pytest.raises(ValueError, match="image_size: 8 in the folder, 4 asked for"):
        check_identity(other.folder, other.identity())


def test_a_folder_from_before_a_setting_has_its_default(begun):
    run, line = begun
    path = run.folder / "config.json"
    whole = read_json(path)
    older = json.loads(json.dumps(whole))
    del older["config"]["train"]["workers"], older["config"]["crop"]
    path.write_text(json.dumps(older))
    for again in (asked(f"--workdir={run.folder}"), asked(*line)):
        check_identity(again.folder, again.identity(), again.config)
    other = asked(*line, "--set=train.workers=2", "--set=crop=0.5")
    lines = ("config.train.workers: 0 in the folder, 2", "config.crop: .* in the folder, 0.5")
    for text in lines:
        with pytest.raises(ValueError, match=text):
            check_identity(other.folder, other.identity(), other.config)
    claim(run.folder, run.identity(), run.notes(), run.config)
    assert read_json(path) == whole


def test_notes_are_printed_and_kept(begun, capsys):
    run, _ = begun
    note = "1 of 24 images are resized and cut to 8×8"
    assert read_json(run.folder / "config.json")["data_notes"] == [note]
    held(run.folder)
    assert capsys.readouterr().out.splitlines().count(f"data: {note}") == 1


def test_changed_data_is_refused_everywhere(begun, images, capsys):
    run, line = begun
    shutil.copy(images / "a" / "00.png", images / "a" / "99.png")
    text = r"began with other data \(class a has 13 files, 12 when the run began\); restore the data, or start anew"
    with pytest.raises(DataError, match=text):
        held(run.folder)
    for again in (asked(f"--workdir={run.folder}"), asked(*line)):
        with pytest.raises(DataError, match=text):
            check_identity(again.folder, again.identity())
    (images / "a" / "99.png").unlink()
    assert held(run.folder).identity() == run.identity()


@pytest.mark.parametrize("gone", [True, False])
def test_a_report_needs_no_data(begun, images, monkeypatch, capsys, gone):
    run, _ = begun
    shutil.rmtree(images) if gone else shutil.copy(images / "a" / "00.png", images / "a" / "99.png")
    monkeypatch.setattr(report.runtime, "start", lambda: None)
    with flagsaver.flagsaver():
        flags.FLAGS(["test", f"--workdir={run.folder}"])
        report.main()
    assert "drawn from what was kept" in capsys.readouterr().out and (run.folder / "report.html").exists()


MISTAKES = {
    ("--extend=2",): "pass its --workdir",
    ("--extend=2", "--experiment=classify"): "pass its --workdir",
    ("--extend=2", "--workdir={run}", "--seed=3"): "pass its --workdir, and --set for what changes",
    ("--extend=2", "--workdir={run}"): "is not finished; finish it before it is extended",
    ("--extend=0", "--workdir={run}"): "by a number of epochs above 0",
}


@pytest.mark.parametrize("given", MISTAKES)
def test_only_a_finished_run_in_a_folder_is_extended(begun, given):
    run, _ = begun
    with pytest.raises(ValueError, match=MISTAKES[given]):
        asked(*(flag.format(run=run.folder) for flag in given))
    assert [path.name for path in run.folder.parent.iterdir() if path.name.startswith("run")] == ["run"]


def test_several_seeds_are_no_extension():
    with flagsaver.flagsaver():
        flags.FLAGS(["test", "--experiment=classify", "--seeds=0,1", "--extend=2"])
        with pytest.raises(ValueError, match="--extend goes on from one run"):
            next(request.runs_from_flags())
