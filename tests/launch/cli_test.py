"""The command line as users and programs meet it: real processes, real files, and mistakes answered in one line."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from dlcore.train import session, stages
from launch import eval as evaluate
from launch import paths, report, runtime, sample, train

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax-cli"),
}
SMALL = ("--experiment=classify", "--data=digits", "--preset=mlp", "--set=train.steps=12", "--set=widths=4")
FIGURES = {"classifier": {"curves"}, "errors": {"confusion", "mistakes", "calibration"}}


def command(program, *arguments, cwd, **options):
    line = [sys.executable, "-m", f"launch.{program}", *arguments]
    return subprocess.run(line, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a folder")
    done = command("train", *SMALL, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "classify-digits-mlp-train.steps=12-widths=4", done


def test_run_folder(finished):
    folder, done = finished
    summary = json.loads((folder / "summary.json").read_text())
    assert {
        "experiment", "preset", "data", "seed", "steps", "parameters", "train_seconds", "compile_seconds",
        "images_per_second", "peak_memory_bytes", "state_sha256", "metrics",
    } <= summary.keys()  # fmt: skip
    assert summary["steps"] == 12 and re.fullmatch("[0-9a-f]{64}", summary["state_sha256"])
    assert {"test/accuracy", "test/nll_nats", "test/ece"} <= summary["metrics"].keys()
    config = json.loads((folder / "config.json").read_text())
    assert config["config"]["train"]["steps"] == 12 and config["config"]["widths"] == [4] and config["layout"] == 2
    assert json.loads((folder / "environment.json").read_text())["packages"]["jax"]
    rows = [json.loads(line) for line in (folder / "classifier" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 12 and any("validation/accuracy" in row for row in rows)
    result = json.loads((folder / "classifier" / "result.json").read_text())
    assert result["sha256"] == summary["state_sha256"] and result["steps"] == 12
    assert {f"test/{name}": value for name, value in result["metrics"].items()} == summary["metrics"]
    assert {stage: {f.stem for f in (folder / stage / "figures").glob("*.png")} for stage in FIGURES} == FIGURES
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(FIGURES)
    assert list((folder / "classifier").glob("events.out.tfevents.*"))
    assert (folder / "report.html").stat().st_size > 50_000
    assert "dense_1" in done.stdout and "compiled the training step" in done.stdout
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.slow
def test_a_finished_run_says_so_and_changes_nothing(finished):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = command("train", f"--workdir={folder}", cwd=folder)
    assert again.returncode == 0 and "finished run" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_eval_and_report_need_only_the_folder(finished, tmp_path):
    folder, _ = finished
    expected = json.loads((folder / "summary.json").read_text())["metrics"]
    done = command("eval", f"--workdir={folder}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "eval_test.json").read_text())["metrics"]
    assert found == pytest.approx(expected, rel=1e-5)
    (folder / "report.html").unlink()
    for stage in FIGURES:
        shutil.rmtree(folder / stage / "figures")
    done = command("report", f"--workdir={folder}", cwd=tmp_path)
    assert done.returncode == 0 and "computing" not in done.stdout, done.stderr
    assert {stage: {f.stem for f in (folder / stage / "figures").glob("*.png")} for stage in FIGURES} == FIGURES
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and "http" not in re.sub(r"base64,[^\"]*", "", page)


@pytest.fixture
def here(monkeypatch):
    """Runs a program in this process, with its flags."""

    def run(program, *given):
        monkeypatch.setattr(runtime, "start", lambda: None)
        monkeypatch.setattr(runtime, "StopRequest", lambda code: lambda: False)
        with flagsaver.flagsaver():
            flags.FLAGS([program.__name__, *given])
            program.main()

    return run


@pytest.mark.parametrize(
    ("flag", "text"),
    [("--seed=3", "seed: 0 in the folder, 3 asked for"), ("--set=train.steps=99", "12 in the folder, 99 asked for")],
)
def test_folder_of_another_run_is_refused(finished, here, flag, text):
    for given in ((*SMALL, flag), (flag,)):
        with pytest.raises(ValueError, match=f"holds another run .*{text}"):
            here(train, *given, f"--workdir={finished[0]}")


def test_seed_and_settings_have_folders_of_their_own(tmp_path, monkeypatch, here):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "execute", lambda run, stop: [run.folder.mkdir(parents=True, exist_ok=True)])
    for extra in ((), ("--seed=3",), ("--set=ema=0.5",), ("--data_dir=x",)):
        here(train, *SMALL, *extra)
    name = "classify-digits-mlp{}-train.steps=12-widths=4{}"
    expected = {name.format("", ""), name.format("-seed3", ""), name.format("", "-ema=0.5")}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == expected


MISTAKES = {
    "experiment": (("--experiment=clasify",), "did you mean 'classify'"),
    "preset": (("--experiment=classify", "--preset=smok"), "did you mean 'smoke'"),
    "data": (("--experiment=classify", "--data=digit"), "did you mean 'digits'"),
    "setting": ((*SMALL, "--set=train.step=3"), "did you mean 'train.steps'"),
    "type": ((*SMALL, "--set=train.steps=three"), "steps must be of type int, got 'three'"),
    "batch": ((*SMALL, "--cpu_devices=8", "--set=train.batch_size=100"), "not divisible by 8 devices; use 96 or 104"),
    "loop": ((*SMALL, "--set=train.log_every=0"), "train.log_every must be at least 1, got 0"),
    "large_batch": ((*SMALL, "--set=train.batch_size=5000"), "1257 examples"),
    "model": ((*SMALL, "--set=model=cnm"), "did you mean 'cnn'"),
    "nothing": ((), "pass --experiment"),
    "no_images": (("--experiment=vae", "--data=two_moons"), "vae needs images, and two_moons has none"),
    "points": (
        ("--experiment=classify", "--data=two_moons", "--set=model=cnn"),
        "model=cnn needs images, and two_moons",
    ),
    "moved points": (("--experiment=classify", "--data=two_moons", "--set=flip=true"), "augmentations are for images"),
    "workers": ((*SMALL, "--set=train.workers=-1"), "train.workers must not be negative"),
    "argument": (("classify",), "unexpected argument 'classify'"),
    "missing_data": (("--experiment=classify", "--data=idx:/nowhere"), "/nowhere has no train-images"),
    "image_size": ((*SMALL, "--image_size=8"), "image_size=8 is for folder:, segments: and tfds:"),
    "processes": ((*SMALL, "--num_processes=2"), "together"),
    "weights in a bucket": (
        (*SMALL, "--set=train.init_from=gs://bucket/model.safetensors"),
        "train.init_from=gs://bucket/model.safetensors is an address",
    ),
    "bucket": ((*SMALL, "--workdir=gs://bucket/run"), "--workdir=gs://bucket/run is an address"),
}


IN_PROCESSES = ("argument", "batch", "processes")
"""Mistakes that need a process of their own; the others are quicker to make in this one."""


@pytest.mark.parametrize("name", sorted(set(MISTAKES) - set(IN_PROCESSES)))
def test_mistakes_are_errors_and_leave_nothing(name, tmp_path, monkeypatch, here):
    given, text = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(text)):
        here(train, *given)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_PROCESSES)
def test_mistakes_are_one_line(name, tmp_path):
    given, text = MISTAKES[name]
    done = command("train", *given, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: ") and text in lines[0], done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "address",
    [
        "gs://b/r",
        "s3://b/r",
        "http://host/r",
        "https://host:80/r",
        "hdfs://n/r",
        "file:///r",
        "gs:/b/r",
        " a+b.c-1://x",
    ],
)
@pytest.mark.parametrize("flag", ["workdir", "out"])
def test_addresses_are_no_folders(flag, address):
    with pytest.raises(ValueError, match=f"--{flag}=.* is an address"):
        paths.local(flag, address)


def test_paths_stay_what_they_are():
    for text in ("runs/a:b", "/x//y", "a b/c", "./gs:", "1:/x", "runs/gs://x"):
        assert paths.local("workdir", text) == Path(text)
    assert paths.local("workdir", "~/x") == Path.home() / "x"
    with pytest.raises(ValueError, match="--workdir is empty"):
        paths.local("workdir", " ")


def test_unwritable_workdir(tmp_path, here):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="choose another --workdir"):
        here(train, *SMALL, f"--workdir={tmp_path / 'file' / 'run'}")


def test_object_arrays_are_not_loaded(tmp_path, here):
    np.savez(tmp_path / "a.npz", image=np.array([{}], dtype=object), label=np.zeros(1, int))
    with pytest.raises(ValueError, match="Python objects"):
        here(train, "--experiment=classify", f"--data=npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize("program", [train, evaluate, report, sample])
def test_a_folder_that_is_no_run_or_one_of_another_layout_is_refused(program, tmp_path, here):
    with pytest.raises(ValueError, match="is not a run folder"):
        here(program, f"--workdir={tmp_path}")
    old = tmp_path / "old"
    shutil.copytree(ROOT / "tests" / "train" / "layout_1", old)
    before = sorted(old.rglob("*"))
    with pytest.raises(ValueError, match=r"holds a run of layout 1, of an earlier version of dlcore.*choose another"):
        here(program, f"--workdir={old}")
    assert sorted(old.rglob("*")) == before


@pytest.mark.slow
def test_export(finished, tmp_path):
    done = command("export", f"--workdir={finished[0]}", "--out=a/net.safetensors", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "net.safetensors",
        "net.predict.stablehlo",
        "net.features.stablehlo",
    }
    opened = session.open_run(tmp_path / "a" / "net.safetensors")
    assert opened.metrics == json.loads((finished[0] / "summary.json").read_text())["metrics"]


def test_nothing_to_sample(finished, here):
    with pytest.raises(ValueError, match="nothing to sample"):
        here(sample, f"--workdir={finished[0]}")


@pytest.mark.slow
def test_doctor(tmp_path):
    done = command("doctor", "--cpu_devices=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("jax ", "digits: 1,257 training", "GFLOP/s", "compile cache"):
        assert text in done.stdout
    assert done.stdout.count("device  ") == 2
