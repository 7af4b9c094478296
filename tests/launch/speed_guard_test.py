"""Speed does not get lost: a few ratios against those that are stored, and what counts as lost."""

import json

import pytest
import speed_guard

from launch.speed.suite import cpu_name

FLAX, ENGINE = "resnet20 train, times Flax", "classify on digits, engine over bare loop"
STORED = {"machine": "2 × chip", "date": "2026-01-02", "ratios": {FLAX: 3.0, ENGINE: 0.99}}


def test_what_is_below_its_bound_is_told():
    assert list(speed_guard.too_slow({FLAX: 2.41, ENGINE: 0.93}, STORED, "2 × chip")) == []
    assert list(speed_guard.too_slow({FLAX: 2.39, ENGINE: 0.91}, STORED, "2 × chip")) == [
        f"{FLAX}: 2.39, below 2.40 (3.00 stored on 2026-01-02)",
        f"{ENGINE}: 0.91, below 0.92 (0.99 stored on 2026-01-02)",
    ]
    assert list(speed_guard.too_slow({FLAX: 1.21, ENGINE: 0.86}, STORED, "another")) == []
    (told,) = speed_guard.too_slow({FLAX: 1.19, ENGINE: 0.86}, STORED, "another")
    assert told == f"{FLAX}: 1.19, below 1.20 (nothing stored for this processor)"


def test_the_file_holds_ratios_that_are_guarded():
    stored = json.loads(speed_guard.STORED.read_text(encoding="utf-8"))
    assert set(stored) == {"machine", "date", "jax", "ratios"} and set(stored["ratios"]) <= set(speed_guard.BOUNDS)
    assert bool(stored["machine"]) == bool(stored["date"]) == bool(stored["ratios"])
    assert speed_guard.ratio_of("bare loop 3\nengine / bare loop: 0.987 (median of 5 turns of 50 steps)\n") == 0.987


@pytest.mark.slow
@pytest.mark.parametrize("measure", [speed_guard.workload_ratios, speed_guard.engine_ratio])
def test_the_ratios_of_this_machine(measure):
    stored = json.loads(speed_guard.STORED.read_text(encoding="utf-8"))
    measured = measure()
    print(measured)
    assert list(speed_guard.too_slow(measured, stored, cpu_name())) == []
