"""Schedules are classified right: Σε = ∞ and Σε² < ∞ (lecture 6.4)."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlcore.optim import robbins_monro, schedules

CASES = {
    "constant": (schedules.constant(0.1), True, False),
    "linear to a floor": (schedules.linear(0.1, 1000, 0.01), True, False),
    "linear to zero": (schedules.linear(0.1, 1000), False, True),
    "cosine": (schedules.cosine(0.1, 1000), False, True),
    "step": (schedules.step_decay(0.1, 10_000, 0.5), False, True),
    "inverse square root": (schedules.inverse_square_root(0.1, 100), True, False),
    "warm-up, then inverse square root": (schedules.warmup(schedules.inverse_square_root(0.1, 9), 50), True, False),
    "1/k": (lambda k: 0.1 / (k + 1), True, True),
    "1/k, late": (lambda k: 0.1 / (1 + k / 1e5), True, True),
    "1/k in float32": (lambda k: 3.0 / jnp.float32(k + 1), True, True),
    "1/(k log k)": (lambda k: 1 / ((k + 2) * np.log(k + 2)), True, True),
    "1/(k log² k)": (lambda k: 1 / ((k + 2) * np.log(k + 2) ** 2), False, True),
    "1/√(k log² k)": (lambda k: 1 / (np.sqrt(k + 2) * np.log(k + 2)), True, True),
    "1/√(k log k)": (lambda k: 1 / np.sqrt((k + 2) * np.log(k + 2)), True, False),
    "exponential": (lambda k: 0.1 * 0.999**k, False, True),
}


@pytest.mark.parametrize("name", CASES)
def test_named_schedules(name):
    schedule, diverges, converge = CASES[name]
    found = robbins_monro(schedule)
    assert (found.sum_diverges, found.squares_converge) == (diverges, converge)
    assert found.holds == (diverges and converge)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 3.0).filter(lambda p: min(abs(p - 1), abs(p - 0.5)) > 1e-3), st.floats(1e-6, 10.0))
def test_every_power_of_k(p, rate):
    found = robbins_monro(lambda k: rate * (k + 1) ** -p)
    assert (found.sum_diverges, found.squares_converge) == (p <= 1, p > 0.5)


def test_bad_schedules():
    for bad in (lambda k: -0.1, lambda k: np.nan):
        with pytest.raises(ValueError, match="not negative"):
            robbins_monro(bad)
