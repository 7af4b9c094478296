"""Kills: SIGKILL at any moment changes no bit of the result; SIGTERM saves; one writer at a time."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest
from cli_test import ENVIRONMENT, command

RUN = ("--experiment=classify", "--data=digits", "--set=train.checkpoint_seconds=0.3", "--set=train.log_every=10")
FLAGS = {
    "cnn": (*RUN, "--set=train.steps=3000", "--set=widths=4,8"),
    "mlp": (*RUN, "--preset=mlp", "--set=train.steps=9000", "--set=ema=0.99"),
}


def start(flags, cwd):
    line = [sys.executable, "-m", "launch.train", *flags]
    return subprocess.Popen(line, cwd=cwd, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def wait_for(process, text):
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the run ended before it printed {text!r}")


@pytest.mark.slow
@pytest.mark.parametrize("model", FLAGS)
def test_three_sigkills_change_no_bit(model, tmp_path):
    flags = FLAGS[model]
    done = command("train", *flags, "--workdir=whole", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for _ in range(3):
        process = start((*flags, "--workdir=cut"), tmp_path)
        wait_for(process, "compiled")
        time.sleep(random.uniform(0.1, 1.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = command("train", "--workdir=cut", cwd=tmp_path)
    assert last.returncode == 0, last.stderr
    a, b = summary(tmp_path / "whole"), summary(tmp_path / "cut")
    assert a["state_sha256"] == b["state_sha256"] and a["metrics"] == b["metrics"]
    logs = [tmp_path / folder / "classifier" / "metrics.jsonl" for folder in ("whole", "cut")]
    whole, cut = ([json.loads(line) for line in log.read_text().splitlines()] for log in logs)
    assert whole == cut
    assert b["train_seconds"] > 0


@pytest.mark.slow
def test_sigterm_saves_and_a_second_writer_is_refused(tmp_path):
    flags = ("--workdir=run", "--set=train.steps=100000", "--stopped_exit_code=75")
    process = start((*FLAGS["cnn"], *flags), tmp_path)
    wait_for(process, "step ")
    second = command("train", "--workdir=run", cwd=tmp_path)
    assert second.returncode == 1 and "another process is writing" in second.stderr, second.stderr
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 75 and time.monotonic() - began < 10
    assert "stopped and saved at step" in out
    step = int(out.split("stopped and saved at step ")[1].split()[0])
    assert f"step {step} of classifier; run the same command to go on" in out
    assert (tmp_path / "run" / "classifier" / "checkpoints" / str(step)).is_dir()
    assert not (tmp_path / "run" / "summary.json").exists()


STUCK = """
import os, signal, sys, time
from launch import runtime
runtime.SECONDS_TO_STOP = 0.1
stop = runtime.StopRequest(*map(int, sys.argv[1:]))
os.kill(os.getpid(), signal.SIGTERM)
while not stop():
    time.sleep(0.01)
if len(sys.argv) > 1 and sys.argv[1] == "3":
    stop.leave()
time.sleep(60)
"""


@pytest.mark.sampled
@pytest.mark.parametrize(("code", "how"), [((), "stuck"), (("75",), "stuck"), (("3",), "saved")])
def test_a_stopped_process_exits_with_the_code_it_was_given_or_0(code, how):
    line = [sys.executable, "-c", STUCK, *code]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode == int("".join(code) or 0), done.stderr
    assert ("stopped at the newest checkpoint" in done.stderr) == (how == "stuck")
