"""A new user's walk at a terminal: find settings, train, interrupt, resume, extend, compare, export, predict."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pexpect
import pytest
from cli_test import ENVIRONMENT
from PIL import Image

ROOT = Path(__file__).parents[2]
LOCAL = str(ROOT / "launch" / "local.sh")
TRAIN = "train --experiment=classify --data=digits --preset=mlp --set=widths=16"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*fork")]


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


class Terminal:
    """A terminal of 120 columns in a folder of its own, in which `local.sh` is typed."""

    def __init__(self, folder):
        self.folder = folder

    def start(self, line):
        options = {"cwd": self.folder, "env": ENVIRONMENT, "encoding": "utf-8", "dimensions": (40, 120)}
        return pexpect.spawn(LOCAL, line.split(), timeout=300, **options)

    def read(self, line):
        """What a command shows, and its exit code."""
        process = self.start(line)
        process.expect(pexpect.EOF)
        process.close()
        return process.before.replace("\r\n", "\n"), process.exitstatus


@pytest.fixture(scope="module")
def terminal(tmp_path_factory):
    return Terminal(tmp_path_factory.mktemp("a new user"))


@pytest.fixture(scope="module")
def interrupted(terminal):
    """A long run that Ctrl-C ended once its bar told the time left, and what it last said."""
    process = terminal.start(f"{TRAIN} --workdir=long --set=train.steps=20000")
    process.expect(r"/20000 \[[^\]]*loss=[^\]]*images/s=[^\]]*ETA=\d+:\d\d\]")
    process.sendintr()
    process.expect(pexpect.EOF)
    process.close()
    return process.before, process.exitstatus


@pytest.fixture(scope="module")
def short(terminal):
    """Two short runs that differ in their seed, and what the terminal showed."""
    shown, status = terminal.read(f"{TRAIN} --set=train.steps=200 --seeds=0,1")
    assert status == 0, shown
    runs = [folder.relative_to(terminal.folder) for folder in (terminal.folder / "runs").glob("classify-*/")]
    first, second = sorted(runs, key=lambda run: "seed1" in run.name)
    return first, second, shown


def test_settings_are_found_and_mistyped_ones_have_their_right_names(terminal):
    began = time.monotonic()
    shown, status = terminal.read("list --experiment=classify")
    assert status == 0 and time.monotonic() - began < 10
    assert "learning_rate: float" in shown and "--preset=smoke|" in shown
    for mistyped, right in (("optimizer.lr=1", "learning_rate"), ("train.stps=5", "steps"), ("widhts=4", "widths")):
        shown, status = terminal.read(f"{TRAIN} --set={mistyped}")
        (error,) = [line for line in shown.splitlines() if "error:" in line]
        assert status == 1 and right in error, shown
    assert not (terminal.folder / "runs").exists()


def test_an_interrupted_run_goes_on_where_it_was(terminal, interrupted):
    said, status = interrupted
    step = int(re.search(r"stopped and saved at step (\d+) of classifier; run the same command to go on", said)[1])
    assert status == 0 and 0 < step < 20_000
    shown, status = terminal.read("train --workdir=long --extend=1")
    assert status == 1 and "finish it before it is extended" in shown
    process = terminal.start("train --workdir=long")
    process.expect(f"resuming at step {step}\\b")
    process.expect(r"20000/20000")
    process.expect(r"test/accuracy (\d\.\d+).*wall time \d+:\d\d")
    assert float(process.match[1]) > 0.5
    process.expect(pexpect.EOF)
    shown, status = terminal.read("train --workdir=long")
    assert status == 0 and "finished" in shown and "compiling" not in shown


def test_seeds_are_compared(terminal, short):
    first, second, shown = short
    assert all(word in shown for word in ("compiling the training step", "evaluating 360 test examples", "drawing"))
    accuracies = [summary(terminal.folder / run)["metrics"]["test/accuracy"] for run in (first, second)]
    shown, status = terminal.read(f"compare {first} {second}")
    assert status == 0 and f"{np.mean(accuracies):.4f}"[:5] in shown and "±" in shown
    assert len((terminal.folder / "runs" / "comparison.csv").read_text().splitlines()) == 3


def test_more_epochs_are_a_run_of_their_own(terminal, short):
    before = summary(terminal.folder / short[0])
    shown, status = terminal.read(f"train --workdir={short[0]} --extend=2")
    assert status == 0, shown
    longer = Path(re.search(r"wrote (.*)/report\.html", shown)[1])
    assert longer != short[0] and summary(terminal.folder / short[0]) == before
    assert 38 <= summary(terminal.folder / longer)["steps"] <= 40  # two epochs of 1,257 examples by 64


def test_a_model_leaves_predicts_and_starts_another(terminal, short):
    shown, status = terminal.read(f"export --workdir={short[0]} --out=net.safetensors")
    assert status == 0 and (terminal.folder / "net.safetensors").stat().st_size > 0, shown
    pictures = terminal.folder / "pictures"
    pictures.mkdir()
    for value in (0, 128, 255):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(pictures / f"{value}.png")
    shown, status = terminal.read(f"predict --workdir={short[0]} --images=pictures --out=found")
    assert status == 0, shown
    assert len((terminal.folder / "found.csv").read_text().splitlines()) == 4
    shown, status = terminal.read(f"{TRAIN} --set=train.init_from=net.safetensors --set=train.steps=1 --workdir=from")
    assert status == 0 and "net.safetensors" in shown, shown
    assert summary(terminal.folder / "from")["metrics"]["test/accuracy"] > 0.2
    shown, status = terminal.read(f"sample --workdir={short[0]}")
    assert status == 1 and "error: " in shown


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium")
def test_the_report_is_a_page_with_its_best_picture(terminal, short):
    page = (terminal.folder / short[0] / "report.html").as_uri()
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,1600"]
    subprocess.run([*command, "--screenshot=report.png", page], cwd=terminal.folder, check=True, timeout=120)
    picture = np.asarray(Image.open(terminal.folder / "report.png").convert("L"))
    assert picture.shape == (1600, 1200) and 0.5 < (picture > 200).mean() < 0.99
