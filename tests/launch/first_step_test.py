"""How soon after its start a program has compiled the training step, from a warm compile cache. On a quiet machine.

./launch/local.sh test -n 0 -s -m 'slow and long' tests/launch/first_step_test.py
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dlcore.train.run import experiment_names

ROOT = Path(__file__).parents[2]
NO_TRAINING = {"visualize"}
"""It looks at a network that another run has trained."""


def seconds_to_first_step(name, folder):
    """Until the line that tells it; the program is stopped then."""
    command = [sys.executable, "-m", "launch.train", f"--experiment={name}", "--data=digits", f"--workdir={folder}"]
    command.append("--set=train.steps=20")
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        told = []
        for line in process.stdout:
            told.append(line)
            if "compiled the training step" in line:
                return time.monotonic() - began
        raise AssertionError("".join(told))
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(experiment_names()) - NO_TRAINING))
def test_the_first_step_is_compiled_within_four_seconds(name, tmp_path):
    found = [seconds_to_first_step(name, tmp_path / str(i)) for i in range(4)][1:]
    print(f"{name}: {min(found):.1f} to {max(found):.1f} s on {os.cpu_count()} cores")
    assert min(found) < 4
