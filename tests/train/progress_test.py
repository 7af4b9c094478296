"""What takes long says how far it is and how long the rest will take; what is quick says nothing."""

import numpy as np
import pytest

from dlcore.data import evaluation_batches, in_memory
from dlcore.train import progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


SPLIT = in_memory({"image": np.arange(50), "label": np.arange(50)})


@pytest.mark.parametrize(("seconds", "expected"), [
    (4.0, ["test: 30 of 50  ETA 0:08"]),
    (11.0, [f"test: {done} of 50  ETA 0:{left}" for done, left in ((10, 44), (20, 33), (30, 22), (40, 11))]),
    (1.0, []),
])  # fmt: skip
def test_reading_a_split_says_how_far_it_is(clock, capsys, seconds, expected):
    for _ in range(2):  # every evaluation counts anew
        clock[0] += 1000
        rows = []
        for batch in evaluation_batches(progress.announced(SPLIT, "test"), batch_size=10):
            rows += [*batch["image"]]
            clock[0] += seconds
        assert rows == list(range(50))
        assert capsys.readouterr().out.splitlines() == expected


def test_one_evaluation_after_another_counts_anew(clock, capsys):
    split = progress.announced(SPLIT, "validation")
    for _ in range(3):
        clock[0] += 500
        for _ in evaluation_batches(split, batch_size=25):
            clock[0] += 20
        assert capsys.readouterr().out.splitlines() == ["validation: 25 of 50  ETA 0:20"]


def test_a_split_stays_what_it_is():
    again = progress.announced(SPLIT, "test")
    assert again.size == 50 and again.arrays is SPLIT.arrays
    np.testing.assert_array_equal(again.read(np.array([3, 1]))["label"], [3, 1])


def test_attempt_lets_stops_through():
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        progress.attempt("anything", stop, {})


def test_attempt_says_what_failed_in_one_line(capsys):
    def fail():
        raise MemoryError("no\nroom")

    notes = {}
    assert progress.attempt("a figure", fail, notes) is None and progress.attempt("another", lambda: 3, notes) == 3
    assert notes == {"a figure": "MemoryError: no room"}
    line = "note: a figure failed, the run goes on without (MemoryError: no room)"
    assert capsys.readouterr().err.splitlines() == [line]
