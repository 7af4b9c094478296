"""Samples of a network by the name and the settings of a sampler (lecture 29.2)."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.diffusion.objective import guided_predict
from dlcore.generative.diffusion.samplers import by_name, make_sampler
from dlcore.generative.diffusion.schedule import Schedule, respace
from dlcore.setting import Number
from dlcore.types import Key, Model, Params, State

Sample = Callable[..., Float[Array, "..."]]


def make_sample(
    network: Model,
    schedule: Schedule,
    shape: Sequence[int],
    *,
    kind: str,
    classes: int = 0,
    sampler: str = "dpm",
    steps: int = 25,
    spacing: float = 1.0,
    variance: str = "posterior",
    eta: Number = 0.0,
    guidance: float = 1.0,
    keep: bool = False,
) -> Sample:
    """`(params, state, key, num, label=None) -> x [num, *shape]` in [−1, 1]; by default all classes in turn.

    `kind` is what the network predicts, `classes` how many it is told. `steps` of the `sampler` are taken, `spacing` as
    in `respace`; `variance` is that of "ancestral", `eta` that of "ddim", `guidance` as in `guided`. With `keep` the
    result is the path [steps + 1, num, *shape]. Raises `ValueError` for another sampler.
    """
    short = respace(schedule, steps, spacing)
    rule = by_name(sampler, short, variance=variance, eta=eta)
    run = make_sampler(guided_predict(network, classes, guidance), short, rule, kind=kind, clip=1.0, keep=keep)

    def sample(params: Params, state: State, key: Key, num: int, label: Array | None = None) -> Array:
        label = jnp.arange(num) % max(classes, 1) if label is None else label
        return run(key, (num, *shape), params, state, label)

    return sample
