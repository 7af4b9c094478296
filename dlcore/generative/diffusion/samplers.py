"""Samplers: from noise to data in S network evaluations (lecture 29.2).

Every one is a linear rule x_{t−1} = a_t x_t + b_t x̂_0(x_t) + c_t x̂_0(x_{t+1}) + d_t ε, so that a sampler is its table
of coefficients, and one loop runs them all. The last step, to the data, adds no noise.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dlcore.backend import on_cpu
from dlcore.generative.check import in_range
from dlcore.generative.diffusion.bound import reverse_variance
from dlcore.generative.diffusion.objective import Predict
from dlcore.generative.diffusion.process import denoise, posterior_weights
from dlcore.generative.diffusion.schedule import Schedule, told
from dlcore.setting import Number, traced
from dlcore.types import Key

Table: TypeAlias = Float[np.ndarray | Array, " s"]
"""float64 on the host, or an array inside `jit` where a setting is traced."""


class Rule(NamedTuple):
    """Coefficients of the step from t to t − 1, entry t of each table."""

    noisy: Table
    """Of x_t."""
    data: Table
    """Of x̂_0, predicted at x_t."""
    before: Table
    """Of x̂_0 as the step before predicted it, at x_{t+1}."""
    noise: Table
    """Of fresh noise."""


def ancestral(schedule: Schedule, variance: str = "posterior") -> Rule:
    """x_{t−1} ~ p(x_{t−1}|x_t) with σ_t² = β_t ("beta") or β̃_t ("posterior") (Ho et al. 2020, algorithm 2)."""
    of_data, of_noisy = posterior_weights(schedule)
    sigma = np.sqrt(reverse_variance(schedule, variance)) if schedule.steps > 1 else np.zeros(2)
    return Rule(of_noisy, of_data, np.zeros_like(sigma), np.where(np.arange(len(sigma)) > 1, sigma, 0.0))


def ddim(schedule: Schedule, eta: Number = 0.0) -> Rule:
    """x_{t−1} = √ᾱ_{t−1} x̂_0 + √(1 − ᾱ_{t−1} − σ²) ε̂ + σ ε with σ² = η² β̃_t (Song et al. 2021, eq. 12, 16).

    η = 0 follows the probability-flow path without noise, η = 1 is the ancestral sampler. η may be traced. Raises
    `ValueError` unless 0 ≤ η ≤ 1, where it is known.
    """
    in_range("ddim", "eta", eta, lambda eta: 0 <= eta <= 1, "lie in [0, 1]")
    eta, root = (eta, jnp.sqrt) if traced(eta) else (np.float64(eta), np.sqrt)
    # 1 − ᾱ_{t−1} − σ² = (1 − ᾱ_{t−1}) (1 − η² β_t/(1 − ᾱ_t)), which does not cancel in float32.
    before = np.append(0.0, schedule.noise[:-1] / schedule.noise[1:])
    ratio = np.append(0.0, schedule.beta[1:] / (1 - schedule.alpha_bar[1:]))
    noisy = before * root(1 - eta**2 * np.minimum(ratio, 1.0))
    data = np.append(0.0, schedule.signal[:-1]) - noisy * schedule.signal
    return Rule(noisy, data, np.zeros(schedule.steps + 1), eta * np.sqrt(schedule.posterior_variance))


def dpm(schedule: Schedule) -> Rule:
    """DPM-Solver++(2M): the probability-flow path by a second-order multistep rule (Lu et al. 2022, algorithm 2).

    With λ = log(√ᾱ/√(1 − ᾱ)), h_t = λ_{t−1} − λ_t and r = h_{t+1}/h_t the step is that of DDIM with x̂_0 replaced by
    (1 + 1/2r) x̂_0(x_t) − 1/2r x̂_0(x_{t+1}). The first step and the last, where h is infinite, are of first order.
    """
    first = ddim(schedule)
    step = -0.5 * np.diff(np.log(schedule.snr[1:]))
    share = np.zeros(schedule.steps + 1)
    share[2:-1] = 0.5 * step[:-1] / step[1:]
    return Rule(first.noisy, first.data * (1 + share), -first.data * share, first.noise)


RULES: dict[str, Callable[..., Rule]] = {"ancestral": ancestral, "ddim": ddim, "dpm": dpm}
"""The samplers by name."""


def by_name(name: str, schedule: Schedule, *, variance: str = "posterior", eta: Number = 0.0) -> Rule:
    """The rule "ancestral" with its `variance`, "ddim" with its `eta`, or "dpm". Raises `ValueError` for another."""
    if name not in RULES:
        raise ValueError(f"sampler must be one of {', '.join(RULES)}, got {name!r}")
    settings = {"ancestral": {"variance": variance}, "ddim": {"eta": eta}, "dpm": {}}[name]
    return RULES[name](schedule, **settings)


def make_sampler(
    predict: Predict, schedule: Schedule, rule: Rule, *, kind: str, clip: float | None = None, keep: bool = False
) -> Callable[..., Array]:
    """The function `(key, shape, *args, temperature=1.0) -> x_0`: noise of `shape`, then all steps of the schedule.

    The first noise and every fresh one are multiplied by the temperature, which may be traced. `args`, such as params
    and classes, go to `predict(x_t, time, *args)`, whose times are those of the whole diffusion, see `told`; it may be
    a network or the exact score of a known density. x̂_0 is cut to [−clip, clip]. With `keep` the result is the path
    x_T … x_0 [S + 1, *shape]. On CPU a Python loop dispatches one compiled step, since XLA runs convolutions inside
    loops many times slower there; elsewhere the loop is a scan. Compiled once per shape. Raises `ValueError` for a rule
    made for another number of steps, and unless the temperature is at least 0.
    """
    if any(len(table) != schedule.steps + 1 for table in rule):
        raise ValueError(f"make_sampler: the rule has {len(rule[0]) - 1} steps, and the schedule {schedule.steps}")
    quiet = not traced(rule.noise) and not np.asarray(rule.noise).any()

    def step(x: Array, before: Array, i: Int[Array, ""], key: Key, scale: Array, args: tuple) -> tuple[Array, Array]:
        noisy, data, earlier, noise = (jnp.asarray(table, x.dtype)[i] for table in rule)
        t = jnp.full(len(x), i)
        x0 = denoise(schedule, kind, x, t, predict(x, told(schedule, t), *args)).x0
        x0 = x0 if clip is None else jnp.clip(x0, -clip, clip)
        x = noisy * x + data * x0 + earlier * before
        if not quiet:
            x += scale * noise * jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
        return x, x0

    def scanned(x: Array, key: Key, scale: Array, args: tuple) -> tuple[Array, Array]:
        def body(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Array]:
            carry = step(*carry, i, key, scale, args)
            return carry, carry[0] if keep else jnp.zeros(())

        (last, _), path = jax.lax.scan(body, (x, jnp.zeros_like(x)), jnp.arange(schedule.steps, 0, -1))
        return last, path

    one, whole = jax.jit(step), jax.jit(scanned)

    def sample(key: Key, shape: tuple[int, ...], *args: object, temperature: Number = 1.0) -> Array:
        in_range("sample", "temperature", temperature, lambda t: t >= 0, "not be negative")
        scale = jnp.asarray(temperature, jnp.float32)
        x = scale * jax.random.normal(jax.random.fold_in(key, 0), shape)
        if not on_cpu():
            last, path = whole(x, key, scale, args)
            return jnp.concatenate([x[None], path]) if keep else last
        before, path = jnp.zeros_like(x), [x]
        for i in range(schedule.steps, 0, -1):
            x, before = one(x, before, jnp.int32(i), key, scale, args)
            path.append(x)
        return jnp.stack(path) if keep else x

    return sample
