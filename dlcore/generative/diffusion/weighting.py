"""Weights of the times in the training objective: which noise levels a network is to care for (lecture 29.3).

A weighting makes a table of a schedule, whose entry t multiplies the squared error of what the network predicts at t.
"""

import difflib
import functools
from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.generative.check import in_range
from dlcore.generative.diffusion.schedule import Schedule
from dlcore.setting import Number, traced

Table: TypeAlias = Float[np.ndarray | Array, " s"]
"""Entry t of 0 … S; float64 on the host, or an array inside `jit` where a setting is traced."""

Weighting: TypeAlias = Callable[[Schedule], Table]


def uniform(schedule: Schedule) -> Table:
    """λ_t = 1: L_simple (Ho et al. 2020, eq. 14)."""
    return np.ones(schedule.steps + 1)


def p2(schedule: Schedule, *, k: Number = 1.0, gamma: Number = 1.0) -> Table:
    """λ_t = 1/(k + SNR_t)^γ with SNR_t = ᾱ_t/(1 − ᾱ_t), relative to L_simple (Choi et al. 2022, section 3.3; P2).

    Times of little noise, where imperceptible detail is learned, weigh less; γ = 0 is `uniform`. k and γ may be traced.
    Entry 0, the data, is never drawn and has weight 0. Raises `ValueError` unless k > 0 and γ ≥ 0, where they are
    known.
    """
    in_range("p2", "k", k, lambda k: 0 < k < np.inf, "be positive and finite")
    in_range("p2", "gamma", gamma, lambda gamma: 0 <= gamma < np.inf, "be finite and not negative")
    xp = jnp if traced(k, gamma) else np
    return xp.append(xp.zeros(1), (k + schedule.snr[1:]) ** -gamma)


WEIGHTINGS: dict[str, Weighting] = {"uniform": uniform, "p2": p2}
"""The weightings by name."""


def named(name: str, *, k: Number = 1.0, gamma: Number = 1.0) -> Weighting:
    """`by_name`, of which "p2" has these settings."""
    return functools.partial(p2, k=k, gamma=gamma) if name == "p2" else by_name(name)


def by_name(name: str) -> Weighting:
    """The weighting "uniform" or "p2"; raises `ValueError`, naming the nearest, for another name."""
    if name not in WEIGHTINGS:
        near = difflib.get_close_matches(name, WEIGHTINGS, n=1, cutoff=0.0)[0]
        raise ValueError(f"unknown weighting {name!r}; did you mean {near!r}? There are {', '.join(WEIGHTINGS)}")
    return WEIGHTINGS[name]
