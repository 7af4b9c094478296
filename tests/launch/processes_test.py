"""One result on one device, on eight simulated ones, and on two processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cli_test import ENVIRONMENT, ROOT, command

FLAGS = (
    "--experiment=classify",
    "--data=digits",
    "--set=train.steps=100",
    "--set=train.log_every=1",
    "--set=train.eval_every=0",
)


def rows(folder):
    lines = [json.loads(line) for line in (folder / "classifier" / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


def metrics(folder):
    return json.loads((folder / "summary.json").read_text())["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["cnn", "mlp"])
def test_devices_and_processes_change_nothing(model, tmp_path):
    flags = (*FLAGS, f"--set=model={model}")
    assert command("train", *flags, "--workdir=one", cwd=tmp_path).returncode == 0
    assert command("train", *flags, "--workdir=eight", "--cpu_devices=8", cwd=tmp_path).returncode == 0
    done = subprocess.run(
        [ROOT / "launch" / "local.sh", "train", *flags, "--workdir=two", "--processes=2"],
        cwd=tmp_path,
        env={**ENVIRONMENT, "DLCORE_VENV": str(Path(sys.prefix))},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    one = rows(tmp_path / "one")
    assert len(one) == 100
    for other in ("eight", "two"):
        assert rows(tmp_path / other) == pytest.approx(one, rel=1e-5), other
        assert metrics(tmp_path / other)["test/accuracy"] == metrics(tmp_path / "one")["test/accuracy"]
        assert metrics(tmp_path / other) == pytest.approx(metrics(tmp_path / "one"), rel=1e-3)
