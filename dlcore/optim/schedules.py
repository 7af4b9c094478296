"""Learning-rate schedules: pure functions of the step (lecture 6.3–6.4)."""

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
import optax

Schedule: TypeAlias = Callable[[int], float]
"""`step -> learning rate`; takes traced steps too."""


def constant(rate: float) -> Schedule:
    """ε_k = ε."""
    return optax.constant_schedule(rate)


def linear(rate: float, steps: int, floor: float = 0.0) -> Schedule:
    """ε_k = (1 − k/τ) ε + (k/τ) · floor · ε up to τ = `steps`, then constant (Goodfellow et al. 2016, eq. 8.14)."""
    return optax.linear_schedule(rate, floor * rate, steps)


def cosine(rate: float, steps: int, floor: float = 0.0) -> Schedule:
    """ε_k = ε (floor + (1 − floor) · ½(1 + cos πk/τ)) up to step τ, then constant (Loshchilov & Hutter 2017)."""
    return optax.cosine_decay_schedule(rate, max(steps, 1), floor)


def step_decay(rate: float, steps: int, factor: float = 0.1) -> Schedule:
    """ε_k = ε · factor^⌊k/steps⌋."""
    return optax.exponential_decay(rate, steps, factor, staircase=True)


def inverse_square_root(rate: float, steps: int) -> Schedule:
    """ε_k = ε √(s/max(k, s)) with s = `steps`: constant, then falling as 1/√k."""
    return lambda step: rate * jnp.sqrt(steps / jnp.maximum(step, steps))


def warmup(schedule: Schedule, steps: int) -> Schedule:
    """(k + 1)/(steps + 1) of the schedule's value before step `steps`, the schedule itself from then on."""
    return lambda step: schedule(step) * jnp.minimum(1.0, (step + 1) / (steps + 1))
