"""Noise schedules of a diffusion (lecture 29.1).

q(x_t|x_{t−1}) = N(√(1 − β_t) x_{t−1}, β_t I) for t = 1 … T. Tables are NumPy float64 on the host, computed before any
rounding to float32, and have T + 1 entries: entry t belongs to x_t, and entry 0 to the data (β = 0, ᾱ = 1).

A schedule that is a part of a longer one counts its own steps, t = 1 … S: those index its tables. What a network is
told is the time of the whole diffusion, always, by `told`.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from dlcore.lookup import lookup
from dlcore.setting import number, traced, whole

LARGEST_BETA = 0.999
"""Where schedules are cut, so that no step destroys everything (Nichol & Dhariwal 2021, section 3.2)."""


class Schedule(NamedTuple):
    """A diffusion of S steps, or the part of a longer one that a sampler visits."""

    time: Int[np.ndarray, " s"]
    """0 and the times 1 … T that the network is told, rising."""
    beta: Float[np.ndarray, " s"]
    alpha_bar: Float[np.ndarray, " s"]
    """ᾱ_t = Π_{s≤t} (1 − β_s), the share of the data's power that is left."""

    @property
    def steps(self) -> int:
        """S, the number of steps."""
        return len(self.beta) - 1

    @property
    def signal(self) -> Float[np.ndarray, " s"]:
        """√ᾱ_t."""
        return np.sqrt(self.alpha_bar)

    @property
    def noise(self) -> Float[np.ndarray, " s"]:
        """√(1 − ᾱ_t)."""
        return np.sqrt(1 - self.alpha_bar)

    @property
    def snr(self) -> Float[np.ndarray, " s"]:
        """ᾱ_t/(1 − ᾱ_t), infinite at t = 0."""
        with np.errstate(divide="ignore"):
            return self.alpha_bar / (1 - self.alpha_bar)

    @property
    def posterior_variance(self) -> Float[np.ndarray, " s"]:
        """β̃_t = β_t (1 − ᾱ_{t−1})/(1 − ᾱ_t), the variance of q(x_{t−1}|x_t, x_0); 0 at t = 1."""
        before = self.alpha_bar[:-1]
        return np.append(0.0, self.beta[1:] * (1 - before) / (1 - self.alpha_bar[1:]))


def from_betas(beta: Float[np.ndarray, " t"]) -> Schedule:
    """The schedule of β_1 … β_T. Raises `ValueError` unless all lie in (0, 1)."""
    beta = np.asarray(beta, np.float64)
    if beta.ndim != 1 or not len(beta) or not ((beta > 0) & (beta < 1)).all():
        raise ValueError(f"betas must be a vector of numbers in (0, 1), got {beta}")
    return Schedule(np.arange(len(beta) + 1), np.append(0.0, beta), np.append(1.0, np.cumprod(1 - beta)))


def linear(steps: int) -> Schedule:
    """β_t rises linearly from 10⁻⁴ to 0.02 for T = 1000 (Ho et al. 2020, section 4); times 1000/T for other T."""
    steps = whole(steps, "linear: steps")
    return from_betas(_cut(np.linspace(1e-4, 0.02, steps) * 1000 / steps))


def cosine(steps: int, offset: float = 0.008) -> Schedule:
    """ᾱ_t = f(t)/f(0) with f(t) = cos²(π/2 · (t/T + s)/(1 + s)) (Nichol & Dhariwal 2021, eq. 17)."""
    steps, _ = whole(steps, "cosine: steps"), number(offset, "cosine: offset", "[0, ∞)")
    angle = (np.arange(steps + 1) / steps + offset) / (1 + offset) * np.pi / 2
    share = np.cos(angle) ** 2
    return from_betas(_cut(1 - share[1:] / share[:-1]))


def sigmoid(steps: int, sharpness: float = 6.0) -> Schedule:
    """β_t = β_min + (β_max − β_min) σ(u), u from −k to k, with the ends of `linear` (Xu et al. 2022, GeoDiff)."""
    steps, _ = whole(steps, "sigmoid: steps"), number(sharpness, "sigmoid: sharpness", "(0, ∞)")
    rise = 1 / (1 + np.exp(-np.linspace(-sharpness, sharpness, steps)))
    return from_betas(_cut((1e-4 + (0.02 - 1e-4) * rise) * 1000 / steps))


def by_name(name: str, steps: int) -> Schedule:
    """The schedule "linear", "cosine" or "sigmoid"; raises `ValueError`, naming the nearest, for another name."""
    known = {function.__name__: function for function in (linear, cosine, sigmoid)}
    return lookup("schedule", name, known)(steps)


def respace(schedule: Schedule, steps: int, power: float = 1.0) -> Schedule:
    """The same diffusion seen at `steps` of its times, i ↦ T (i/S)^power, for samplers that take few steps.

    ᾱ stays, and β_i = 1 − ᾱ_i/ᾱ_{i−1} is that of the longer step (Nichol & Dhariwal 2021, eq. 19). A power above 1 puts
    more steps near the data. Raises `ValueError` unless 1 ≤ steps ≤ T and power ≥ 1.
    """
    steps, _ = whole(steps, "respace: steps"), number(power, "respace: power", "[1, ∞)")
    if steps > schedule.steps:
        raise ValueError(f"respace: steps={steps} must lie in 1 … {schedule.steps}")
    index = np.rint(schedule.steps * (np.arange(steps + 1) / steps) ** power).astype(int)
    index = np.maximum(index, np.arange(steps + 1))  # Small powers of small fractions round to the same time.
    alpha_bar = schedule.alpha_bar[index]
    beta = np.append(0.0, 1 - alpha_bar[1:] / alpha_bar[:-1])
    return Schedule(schedule.time[index], beta, alpha_bar)


def at(
    table: Float[np.ndarray | Array, " s"], t: Int[Array, "*n"], like: Float[Array, "..."], *, first: int = 0
) -> Float[Array, "..."]:
    """Entry t of a table, one per example, in the dtype of `like` and shaped to be multiplied with it.

    Raises `ValueError` for a table of more than one axis, unless there is one t per example of `like` (or one for all),
    and for t outside `first` … S where it is known; inside `jit` such an entry is NaN.
    """
    if jnp.ndim(table) != 1:
        raise ValueError(f"the table of a schedule has one number per step, got shape {jnp.shape(table)}")
    t = _times(t)
    if t.shape != like.shape[: t.ndim]:
        raise ValueError(
            f"t has shape {t.shape} for examples of shape {like.shape}; pass one time each, or one for all"
        )
    inside = _inside(t, len(table) - 1, first)
    values = jnp.where(inside, jnp.asarray(table, like.dtype)[t], jnp.nan)
    return values.reshape(values.shape + (1,) * (like.ndim - values.ndim))


def told(schedule: Schedule, t: Int[Array, "*n"]) -> Int[Array, "*n"]:
    """The times that a network is told at steps t = 1 … S: those of the whole diffusion, 1 … T.

    Everything that calls a network asks here. Raises `ValueError` for a t outside 1 … S where it is known; inside
    `jit` it is told −1, and x_t is NaN.
    """
    t = _times(t)
    inside = _inside(t, schedule.steps, 1)
    return jnp.where(inside, jnp.asarray(schedule.time, jnp.int32)[t], -1)


def _times(t: ArrayLike) -> Int[Array, "*n"]:
    """t as an array; raises `ValueError` for what does not count steps."""
    if isinstance(t, str) or t is None or not jnp.issubdtype(jnp.result_type(t := jnp.asarray(t)), jnp.integer):
        got = f"{t!r}" if t is None or isinstance(t, str) else f"{t.dtype}"
        raise ValueError(f"t must be whole numbers, the steps of the schedule, got {got}; use astype('int32')")
    return t


def _inside(t: Int[Array, "*n"], last: int, first: int) -> Bool[Array, "*n"]:
    if not traced(t) and t.size:
        low, high = np.asarray(t).min(), np.asarray(t).max()
        if not first <= low <= high <= last:
            raise ValueError(f"t must lie in {first} … {last}, the steps of this schedule, got {low} … {high}")
    return (t >= first) & (t <= last)


def _cut(beta: Float[np.ndarray, " t"]) -> Float[np.ndarray, " t"]:
    return np.minimum(beta, LARGEST_BETA)
