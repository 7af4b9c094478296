"""The command line as users and programs meet it: real processes, real files, and mistakes answered in one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from launch import paths

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax-cli"),
}
SMOKE = ("--experiment=classify", "--data=digits", "--preset=smoke", "--set=train.steps=12", "--set=widths=4,8")


def command(program, *flags, cwd, **options):
    line = [sys.executable, "-m", f"launch.{program}", *flags]
    return subprocess.run(line, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=240, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("a folder")
    done = command("train", *SMOKE, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "classify-digits-smoke", done


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
    assert config["config"]["train"]["steps"] == 12 and config["config"]["widths"] == [4, 8]
    assert json.loads((folder / "environment.json").read_text())["packages"]["jax"]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 12 and any("validation/accuracy" in row for row in rows)
    assert {f.stem for f in (folder / "figures").glob("*.png")} == {"curves", "confusion", "mistakes", "calibration"}
    assert list(folder.glob("events.out.tfevents.*")) and (folder / "report.html").stat().st_size > 50_000
    assert "stage_1/conv_0" in done.stdout and "compiled the training step" in done.stdout
    assert not list(folder.rglob("*.tmp"))


def test_a_finished_run_says_so_and_changes_nothing(finished):
    folder, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    again = command("train", f"--workdir={folder}", cwd=folder)
    assert again.returncode == 0 and "finished run" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_eval_and_report_need_only_the_folder(finished, tmp_path):
    folder, _ = finished
    expected = json.loads((folder / "summary.json").read_text())["metrics"]
    done = command("eval", f"--workdir={folder}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "eval_test.json").read_text())["metrics"]
    assert found == pytest.approx(expected, rel=1e-5)
    (folder / "report.html").unlink()
    (folder / "figures" / "curves.png").unlink()
    done = command("report", f"--workdir={folder}", cwd=tmp_path)
    assert done.returncode == 0 and (folder / "figures" / "curves.png").exists(), done.stderr
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4 and "http" not in re.sub(r"base64,[^\"]*", "", page)


@pytest.mark.parametrize("wrong", ["another_seed", "another_setting"])
def test_folder_of_another_run_is_refused(finished, wrong):
    folder, _ = finished
    flags = {"another_seed": ("--seed=3",), "another_setting": ("--set=train.steps=99",)}[wrong]
    done = command("train", *SMOKE, *flags, f"--workdir={folder}", cwd=folder)
    assert done.returncode == 1 and "holds another run" in done.stderr and len(done.stderr.splitlines()) == 1
    assert ("seed: 0 in the folder, 3 asked for" if wrong == "another_seed" else "12 in the folder, 99") in done.stderr


MISTAKES = {
    "experiment": (("--experiment=clasify",), "did you mean 'classify'"),
    "preset": (("--experiment=classify", "--preset=smok"), "did you mean 'smoke'"),
    "data": (("--experiment=classify", "--data=digit"), "did you mean 'digits'"),
    "setting": ((*SMOKE, "--set=train.step=3"), "did you mean 'steps'"),
    "type": ((*SMOKE, "--set=train.steps=three"), "steps must be of type int, got 'three'"),
    "batch": ((*SMOKE, "--cpu_devices=8", "--set=train.batch_size=100"), "not divisible by 8 devices; use 96 or 104"),
    "large_batch": ((*SMOKE, "--set=train.batch_size=5000"), "1257 examples"),
    "model": ((*SMOKE, "--set=model=cnm"), "did you mean 'cnn'"),
    "nothing": ((), "pass --experiment"),
    "no_images": (("--experiment=classify", "--data=two_moons"), "labelled images"),
    "argument": (("classify",), "unexpected argument 'classify'"),
    "missing_data": (("--experiment=classify", "--data=idx:/nowhere"), "/nowhere has no train-images"),
    "image_size": ((*SMOKE, "--image_size=8"), "image_size=8 is for folder: and tfds:"),
    "processes": ((*SMOKE, "--num_processes=2"), "together"),
    "bucket": ((*SMOKE, "--workdir=gs://bucket/run"), "--workdir=gs://bucket/run is an address"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing(name, tmp_path):
    flags, text = MISTAKES[name]
    done = command("train", *flags, cwd=tmp_path)
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


def test_unwritable_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    done = command("train", *SMOKE, f"--workdir={tmp_path / 'file' / 'run'}", cwd=tmp_path)
    assert done.returncode == 1 and "choose another --workdir" in done.stderr and len(done.stderr.splitlines()) == 1


def test_object_arrays_are_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.array([{}], dtype=object), label=np.zeros(1, int))
    done = command("train", "--experiment=classify", f"--data=npz:{tmp_path / 'a.npz'}", cwd=tmp_path)
    assert done.returncode == 1 and "Python objects" in done.stderr


def test_folder_that_is_no_run(tmp_path):
    for program in ("train", "eval", "report", "sample"):
        done = command(program, f"--workdir={tmp_path}", cwd=tmp_path)
        assert done.returncode == 1 and "is not a run folder" in done.stderr, done.stderr


def test_nothing_to_sample(finished):
    done = command("sample", f"--workdir={finished[0]}", cwd=finished[0])
    assert done.returncode == 1 and "nothing to sample" in done.stderr


def test_doctor(tmp_path):
    done = command("doctor", "--cpu_devices=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for text in ("jax ", "digits: 1,257 training", "GFLOP/s", "compile cache"):
        assert text in done.stdout
    assert done.stdout.count("device  ") == 2
