"""Bigger bijections from smaller ones: composition, inversion, factoring out (lecture 28, 28.3)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.check import like_examples
from dlcore.keys import fold_name
from dlcore.nn.graph import numbered
from dlcore.types import Bijector, Key, Params

Tap = Callable[[str, Array], None]
"""Takes `(path, value)` of an intermediate value."""

Moved = tuple[Array, Float[Array, " b"]]


@dataclass(frozen=True, eq=False)
class Watched:
    """A `Bijector.forward` that shows what happens inside: `run(params, x, *condition, tap=...)` hands values to `tap`
    by path."""

    run: Callable[..., Moved]

    def __call__(self, params: Params, x: Array, *condition: Array) -> Moved:
        return self.run(params, x, *condition, tap=unseen)


def unseen(path: str, value: Array) -> None:
    """The tap that looks at nothing."""


def watch(bijector: Bijector, params: Params, x: Array, *condition: Array, tap: Tap) -> Moved:
    """`forward`, with intermediate values handed to `tap`; a bijector without any just runs."""
    if isinstance(bijector.forward, Watched):
        return bijector.forward.run(params, x, *condition, tap=tap)
    return bijector.forward(params, x, *condition)


def given(name: str, bijector: Bijector, x: Array, condition: tuple[Array, ...]) -> tuple[Array, ...]:
    """The condition as it was passed: one array [b, ...] for a conditional bijector, nothing for another.

    Raises `ValueError`, naming the function, for one that is missing, superfluous or not one row per example.
    """
    return checked_condition(name, bijector.conditional, x, condition)


def checked_condition(name: str, wanted: bool, x: Array, condition: tuple[Array, ...]) -> tuple[Array, ...]:
    """`given`, for what is known to want a condition or not."""
    if wanted and len(condition) != 1:
        raise ValueError(f"{name}: the condition is missing; pass one array [{len(x)}, ...], one row per example, last")
    if condition and not wanted:
        shapes = ", ".join(str(array.shape) for array in condition)
        raise ValueError(f"{name}: no part takes a condition, but one of shape {shapes} came; leave it out")
    if condition and (not condition[0].ndim or len(condition[0]) != len(x)):
        raise ValueError(f"{name}: condition has shape {condition[0].shape}; it must have one row for each of {len(x)}")
    return condition


def log_scales(
    bijector: Bijector, params: Params, x: Float[Array, "b ..."], *condition: Array
) -> tuple[Array, Array, dict[str, Array]]:
    """z, log|det J| and the log-scales of every coupling by path, e.g. `"step_0/coupling/log_scale"`."""
    found: dict[str, Array] = {}

    def tap(path: str, value: Array) -> None:
        if path.rpartition("/")[2] == "log_scale":
            found[path] = value

    z, log_det = watch(bijector, params, x, *condition, tap=tap)
    return z, log_det, found


def below(name: str, tap: Tap) -> Tap:
    """The tap for the part `name`."""
    return lambda path, value: tap(f"{name}/{path}", value)


def no_change(x: Float[Array, "b ..."]) -> Float[Array, " b"]:
    """The log-determinant of a map that keeps volumes: 0 per example."""
    return jnp.zeros(x.shape[0], x.dtype)


def chain(*bijectors: Bijector, **named: Bijector) -> Bijector:
    """f = f_n ∘ … ∘ f_1 from data to latent: log|det J_f| = Σ_i log|det J_{f_i}| at the points passed (lecture 28).

    Positional parts are called by their kind (`act_norm_0`); keyword ones, which follow, keep their names. `init` runs
    the chain, so that a part whose start depends on data sees what the parts before make of it; it is compiled as a
    whole. A condition goes to every part that takes one. Raises `ValueError` for a part whose log-determinant is not one
    number per example, and for a condition that is missing, or that no part takes.
    """
    parts = {**numbered(bijectors), **named}
    conditional = any(part.conditional for part in parts.values())

    def told(part: Bijector, condition: tuple[Array, ...]) -> tuple[Array, ...]:
        return condition if part.conditional else ()

    def init(key: Key, x: Array, *condition: Array) -> Params:
        checked_condition("chain", conditional, x, condition)
        started = start(key, x, *condition)  # sorted by name, as jit returns dicts
        return {name: started[name] for name in parts if name in started}

    @jax.jit
    def start(key: Key, x: Array, *condition: Array) -> Params:
        params = {}
        for name, part in parts.items():
            params[name] = part.init(fold_name(key, name), x, *told(part, condition))
            x, _ = part.forward(params[name], x, *told(part, condition))
        return {name: branch for name, branch in params.items() if jax.tree.leaves(branch)}

    def run(params: Params, x: Array, *condition: Array, tap: Tap) -> Moved:
        checked_condition("chain", conditional, x, condition)
        total = no_change(x)
        for name, part in parts.items():
            x, log_det = watch(part, params.get(name, {}), x, *told(part, condition), tap=below(name, tap))
            like_examples(f"chain: {name}", "log-determinant", log_det, x)
            total = total + log_det
        return x, total

    def inverse(params: Params, z: Array, *condition: Array) -> Moved:
        checked_condition("chain", conditional, z, condition)
        total = no_change(z)
        for name, part in reversed(parts.items()):
            z, log_det = part.inverse(params.get(name, {}), z, *told(part, condition))
            like_examples(f"chain: {name}", "log-determinant", log_det, z)
            total = total + log_det
        return z, total

    return Bijector(init, Watched(run), inverse, "chain", conditional)


def invert(bijector: Bijector) -> Bijector:
    """The same map in the other direction, log-determinants included.

    A data-dependent start sees the batch on the side where the original has its data, so the batch that starts the
    inverted map must be one that the original's `forward` takes.
    """
    return bijector._replace(forward=bijector.inverse, inverse=bijector.forward)


def Flatten(shape: Sequence[int]) -> Bijector:
    """[b, *shape] to [b, D], row-major; volumes stay the same."""

    def forward(params: Params, x: Array) -> Moved:
        _check(x, shape, "Flatten")
        return x.reshape(x.shape[0], -1), no_change(x)

    def inverse(params: Params, z: Array) -> Moved:
        _check_flat(z, math.prod(shape), "Flatten")
        return z.reshape(z.shape[0], *shape), no_change(z)

    def init(key: Key, x: Array) -> Params:
        return {}

    return Bijector(init, forward, inverse, "flatten")


def split(rest: Bijector, shape: Sequence[int]) -> Bijector:
    """Factor out half of the channels: z = (rest(x₁), x₂) with x₁ the first half (Dinh et al. 2017, section 3.6).

    x is [b, *shape] with an even number of channels; `rest` takes [b, *shape[:-1], shape[-1]/2] and gives [b, d]; z is
    [b, D], the outputs of `rest` first. A coupling before it that moves x₂ given x₁ is the conditional Gaussian
    prior of Glow. Raises `ValueError` for an odd number of channels, or when `rest` does not give flat latents.
    """
    channels, size = shape[-1], math.prod(shape)
    if channels % 2:
        raise ValueError(f"split: {channels} channels cannot be halved; squeeze first, or use an even number")
    kept = channels // 2

    def init(key: Key, x: Array, *condition: Array) -> Params:
        _check(x, shape, "split")
        return rest.init(key, x[..., :kept], *given("split", rest, x, condition))

    def run(params: Params, x: Array, *condition: Array, tap: Tap) -> Moved:
        _check(x, shape, "split")
        z, log_det = watch(rest, params, x[..., :kept], *given("split", rest, x, condition), tap=tap)
        if z.shape != (x.shape[0], size // 2):
            raise ValueError(f"split: rest gives shape {z.shape}; it must give [b, {size // 2}] (end it with Flatten)")
        return jnp.concatenate([z, x[..., kept:].reshape(x.shape[0], -1)], axis=-1), log_det

    def inverse(params: Params, z: Array, *condition: Array) -> Moved:
        _check_flat(z, size, "split")
        x, log_det = rest.inverse(params, z[:, : size // 2], *given("split", rest, z, condition))
        out = z[:, size // 2 :].reshape(z.shape[0], *shape[:-1], kept)
        return jnp.concatenate([x, out], axis=-1), log_det

    return Bijector(init, Watched(run), inverse, "split", rest.conditional)


def _check_flat(z: Array, size: int, name: str) -> None:
    if z.shape[1:] != (size,):
        raise ValueError(f"{name}: latents have shape {z.shape}, but it was made for [b, {size}]")


def _check(x: Array, shape: Sequence[int], name: str) -> None:
    if x.shape[1:] != tuple(shape):
        raise ValueError(f"{name}: examples have shape {x.shape[1:]}, but it was made for {tuple(shape)}")
