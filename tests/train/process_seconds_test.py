"""How old this process is, and which of its programs came from the compile cache."""

import subprocess
import sys
import time

import jax
import pytest

from dlcore.train import _process


def test_the_age_of_this_process():
    before = _process.seconds()
    time.sleep(0.05)
    assert 0.04 < _process.seconds() - before < 5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it counts from the import on")
def test_the_age_counts_from_the_start_of_the_process():
    code = "import time; time.sleep(0.5); from dlcore.train import _process; print(_process.seconds())"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.5 < float(done.stdout) < time.monotonic() - began + 0.05


def test_programs_are_counted_once(monkeypatch):
    monkeypatch.setattr(_process, "_counted", type(_process._counted)())
    _process.watch()
    _process.watch()
    assert _process.programs() == (0, 0) and "programs" not in _process.in_words()
    for event in (_process.ASKED, _process.FOUND, _process.ASKED, "/jax/another"):
        jax.monitoring.record_event(event)
    assert _process.programs() == (2, 1)
    assert _process.in_words().endswith("s after the process began, 1 of 2 programs compiled anew")
