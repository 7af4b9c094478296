"""Learning-rate schedules: pure functions of the step (lecture 6.3–6.4).

Rates, floors, factors and counts of steps may be traced. A phase of 0 steps is over after step 0.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax.numpy as jnp

from dlcore.setting import Number, number

Schedule: TypeAlias = Callable[[Any], Any]
"""`step -> learning rate`; takes traced steps too."""


def constant(rate: Number) -> Schedule:
    """ε_k = ε."""
    number(rate, "constant: rate", "[0, ∞)")
    return lambda step: rate


def linear(rate: Number, steps: Number, floor: Number = 0.0) -> Schedule:
    """ε_k = (1 − k/τ) ε + (k/τ) · floor · ε up to τ = `steps`, then constant (Goodfellow et al. 2016, eq. 8.14).

    Raises `ValueError` for negative steps.
    """
    _check("linear", steps, least=0, rate=rate, floor=floor)

    def schedule(step: Any) -> Any:
        share = _share(step, steps)
        return rate * ((1 - share) + share * floor)

    return schedule


def cosine(rate: Number, steps: Number, floor: Number = 0.0) -> Schedule:
    """ε_k = ε (floor + (1 − floor) · ½(1 + cos πk/τ)) up to step τ, then constant (Loshchilov & Hutter 2017).

    Raises `ValueError` for negative steps.
    """
    _check("cosine", steps, least=0, rate=rate, floor=floor)
    return lambda step: rate * (floor + (1 - floor) * 0.5 * (1 + jnp.cos(jnp.pi * _share(step, steps))))


def step_decay(rate: Number, steps: Number, factor: Number = 0.1) -> Schedule:
    """ε_k = ε · factor^⌊k/steps⌋. Raises `ValueError` for fewer than 1 step."""
    _check("step_decay", steps, least=1, rate=rate, factor=factor)
    return lambda step: rate * jnp.asarray(factor, jnp.result_type(float)) ** jnp.floor(step / steps)


def inverse_square_root(rate: Number, steps: Number) -> Schedule:
    """ε_k = ε √(s/max(k, s)) with s = `steps`: constant, then falling as 1/√k. Raises `ValueError` for s below 1."""
    _check("inverse_square_root", steps, least=1, rate=rate)
    return lambda step: rate * jnp.sqrt(steps / jnp.maximum(step, steps))


def piecewise(rate: Number, boundaries: Sequence[Number], factors: Sequence[Number]) -> Schedule:
    """ε_k = ε · Π factorᵢ over all boundaries bᵢ ≤ k: the rate times each factor from its boundary on.

    That is `optax.piecewise_constant_schedule`, and PyTorch's `MultiStepLR`. Raises `ValueError` unless there is one
    factor for each boundary, and for negative boundaries.
    """
    if len(boundaries) != len(factors):
        raise ValueError(
            f"piecewise: one factor for each boundary, got {len(boundaries)} boundaries, {len(factors)} factors"
        )
    for boundary, factor in zip(boundaries, factors, strict=True):
        _check("piecewise", boundary, least=0, rate=rate, factor=factor)

    def schedule(step: Any) -> Any:
        now = jnp.asarray(rate, jnp.result_type(float))
        for boundary, factor in zip(boundaries, factors, strict=True):
            now = now * jnp.where(step >= boundary, factor, 1.0)
        return now

    return schedule


def one_cycle(
    rate: Number, steps: Number, *, rise: Number = 0.3, start: Number = 1 / 25, end: Number = 1e-4
) -> Schedule:
    """Up to ε and down again within τ = `steps`, each by half a cosine, then constant (Smith & Topin 2019).

    From start · ε up to ε at step ⌊rise · τ⌋, down to start · end · ε at τ, as `optax.cosine_onecycle_schedule` and
    PyTorch's `OneCycleLR`. Raises `ValueError` for fewer than 1 step.
    """
    _check("one_cycle", steps, least=1, rate=rate, start=start, end=end)
    number(rise, "one_cycle: rise", "[0, 1]")

    def schedule(step: Any) -> Any:
        top = jnp.floor(rise * steps)
        up, down = _share(step, top), _share(jnp.maximum(step - top, 0), steps - top)
        rising = 1 + (start - 1) * 0.5 * (1 + jnp.cos(jnp.pi * up))
        falling = start * end + (1 - start * end) * 0.5 * (1 + jnp.cos(jnp.pi * down))
        return rate * jnp.where(step < top, rising, falling)

    return schedule


def warmup(schedule: Schedule, steps: Number) -> Schedule:
    """(k + 1)/(steps + 1) of the schedule's value before step `steps`, the schedule itself from then on.

    Raises `ValueError` for negative steps.
    """
    _check("warmup", steps, least=0)
    return lambda step: schedule(step) * jnp.minimum(1.0, (step + 1) / (steps + 1))


def _share(step: Any, steps: Number) -> Any:
    """How much of τ steps has passed, k/τ ≤ 1."""
    return jnp.minimum(step / jnp.maximum(steps, 1), 1.0)


def _check(name: str, steps: Number, *, least: int, **others: Number) -> None:
    number(steps, f"{name}: steps", f"[{least}, ∞)")
    for setting, value in others.items():
        number(value, f"{name}: {setting}", "[0, ∞)")
