"""The optimiser of a run from its frozen config (lecture 6–7, 10.1)."""

from dataclasses import dataclass
from typing import Any

import jax
import optax

from dlcore.lookup import lookup
from dlcore.optim._clip import clip_by_global_norm
from dlcore.optim._copies import copy_by_copy
from dlcore.optim._muon import muon
from dlcore.optim._named import PREFIX, named, takes
from dlcore.optim.schedules import (
    Schedule,
    constant,
    cosine,
    inverse_square_root,
    linear,
    one_cycle,
    piecewise,
    step_decay,
    warmup,
)
from dlcore.tree import is_weight, matching, named_leaves, path_of


@dataclass(frozen=True)
class OptimizerConfig:
    """An optimiser, its schedule, and what it does to gradients first."""

    name: str = "adam"
    """sgd, momentum, nesterov, adagrad, rmsprop, adam, adamw or muon, or any of optax: optax.lion,
    optax.contrib.prodigy."""
    arguments: tuple[str, ...] = ()
    """Of an optimiser of optax, as in a call: "b1=0.95", "b2=0.98". What is left open has optax's own default, but
    `learning_rate`, and `weight_decay` if one is set."""
    learning_rate: float = 1e-3
    schedule: str = "constant"
    """constant, linear, cosine, step, piecewise, one_cycle or inverse_sqrt, or one of optax: optax.sgdr_schedule."""
    schedule_arguments: tuple[str, ...] = ()
    """Of a schedule of optax, as in a call: "end_value=0.01", "power=2". What is left open of value, init_value and
    peak_value is the learning rate, of transition_steps and decay_steps the length of the run."""
    boundaries: tuple[int, ...] = ()
    """Steps of a piecewise schedule from which on the rate is multiplied by `decay_factor`."""
    warmup_steps: int = 0
    floor: float = 0.0
    """Share of the learning rate that linear and cosine end at."""
    decay_steps: int = 0
    """Period of step decay, or where inverse_sqrt begins to fall; 0 for a third of the run."""
    decay_factor: float = 0.1
    momentum: float = 0.9
    b1: float = 0.9
    b2: float = 0.999
    rho: float = 0.9
    """Decay of rmsprop's mean of squares."""
    epsilon: float = 1e-8
    vector_rate: float = 1.0
    """Of muon: the rate of biases and scales, which Adam moves, as a multiple of the learning rate of matrices."""
    weight_decay: float = 0.0
    """Decoupled for adamw and muon; for the others an L2 penalty, its gradient added before the optimiser."""
    clip_value: float = 0.0
    """Largest absolute value of a gradient's entry; 0 does not clip."""
    clip_norm: float = 0.0
    """Largest global norm of the gradient, after `clip_value`; 0 does not clip."""
    freeze: tuple[str, ...] = ()
    """A pattern of the paths that stay as they are, e.g. "stage_1/**", see `dlcore.tree`."""


def learning_rate(config: OptimizerConfig, total_steps: int) -> Schedule:
    """The schedule of a run of `total_steps`."""
    if config.schedule.startswith(PREFIX):
        given = {"transition_steps": total_steps, "decay_steps": total_steps}
        given |= dict.fromkeys(("value", "init_value", "peak_value"), config.learning_rate)
        schedule = named(config.schedule, config.schedule_arguments, **given)
        if not callable(schedule):
            raise ValueError(f"optimizer.schedule: {config.schedule} makes no schedule; use optax.…_schedule")
        return warmup(schedule, config.warmup_steps) if config.warmup_steps else schedule
    rate, period = config.learning_rate, config.decay_steps or max(total_steps // 3, 1)
    schedules = {
        "constant": lambda: constant(rate),
        "linear": lambda: linear(rate, total_steps, config.floor),
        "cosine": lambda: cosine(rate, total_steps, config.floor),
        "step": lambda: step_decay(rate, period, config.decay_factor),
        "piecewise": lambda: piecewise(rate, config.boundaries, (config.decay_factor,) * len(config.boundaries)),
        "one_cycle": lambda: one_cycle(rate, total_steps),
        "inverse_sqrt": lambda: inverse_square_root(rate, period),
    }
    schedule = lookup("schedule", config.schedule, schedules)()
    return warmup(schedule, config.warmup_steps) if config.warmup_steps else schedule


def make_optimizer(config: OptimizerConfig, total_steps: int) -> optax.GradientTransformation:
    """Clip by value, clip by norm, weight decay, optimiser, schedule; frozen paths see none of it.

    Raises `ValueError` for unknown names and negative numbers, and, at `init`, for a freeze pattern
    that matches no path.
    """
    for name in (
        "learning_rate",
        "warmup_steps",
        "floor",
        "weight_decay",
        "clip_value",
        "clip_norm",
        "momentum",
        "decay_steps",
        "rho",
        "vector_rate",
    ):
        if getattr(config, name) < 0:
            raise ValueError(f"optimizer.{name} must not be negative, got {getattr(config, name)}")
    rate = learning_rate(config, total_steps)
    optimizers = {
        "sgd": lambda: optax.sgd(rate),
        "momentum": lambda: optax.sgd(rate, config.momentum),
        "nesterov": lambda: optax.sgd(rate, config.momentum, nesterov=True),
        "adagrad": lambda: optax.adagrad(rate, eps=config.epsilon),
        "rmsprop": lambda: optax.rmsprop(rate, decay=config.rho, eps=config.epsilon),
        "adam": lambda: optax.adam(rate, config.b1, config.b2, config.epsilon),
        "adamw": lambda: optax.adamw(
            rate, config.b1, config.b2, config.epsilon, weight_decay=config.weight_decay, mask=decay_mask
        ),
    }
    optimizers["muon"] = lambda: muon(
        rate,
        config.momentum,
        vector_rate=config.vector_rate,
        weight_decay=config.weight_decay,
        b1=config.b1,
        b2=config.b2,
        epsilon=config.epsilon,
    )
    chain = [optax.clip(config.clip_value)] if config.clip_value else []
    chain += [clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    ours = not config.name.startswith(PREFIX)
    decoupled = config.name in ("adamw", "muon") if ours else "weight_decay" in takes(config.name)
    if config.weight_decay and not decoupled:
        chain.append(optax.add_decayed_weights(config.weight_decay, decay_mask))
    optimizers["optax.NAME"] = lambda: _of_optax(config, rate)
    chain.append(lookup("optimizer", config.name if ours else "optax.NAME", optimizers)())
    tx = optax.chain(*chain)
    return _frozen(tx, config.freeze) if config.freeze else tx


def _of_optax(config: OptimizerConfig, rate: Schedule) -> optax.GradientTransformation:
    # Some take a number alone.
    plain = config.schedule == "constant" and not config.warmup_steps
    given = {"learning_rate": config.learning_rate if plain else rate}
    taken = takes(config.name)
    if config.weight_decay and "weight_decay" in taken:
        mask = next((name for name in ("mask", "weight_decay_mask") if name in taken), None)
        if mask is None:
            raise ValueError(
                f"optimizer.weight_decay: {config.name} would decay biases and scales as well; if it may, set "
                f"optimizer.arguments=weight_decay={config.weight_decay:g} instead"
            )
        given |= {"weight_decay": config.weight_decay, mask: decay_mask}
    tx = named(config.name, config.arguments, **given)
    # Directions without a rate, which it is left to others to scale and turn downhill.
    unscaled = config.name.rpartition(".")[2].startswith("scale_by_") and "learning_rate" not in taken
    downhill = unscaled or {"learning_rate", "max_learning_rate"} & {*taken}
    if (
        not isinstance(tx, optax.GradientTransformation | optax.MultiSteps)
        or not downhill
        or "linesearch" in config.name
    ):
        raise ValueError(
            f"optimizer.name: {config.name} is no optimiser, or only a part of one, that takes no steps downhill by "
            f"itself; use one such as optax.lion"
        )
    tx = copy_by_copy(tx) if isinstance(tx, optax.GradientTransformation) else tx
    return optax.chain(tx, optax.scale_by_learning_rate(given["learning_rate"])) if unscaled else tx


def decay_mask(params: Any) -> Any:
    """True for weights, False for biases and the scales of single units: `dlcore.tree.is_weight` of every path."""
    return jax.tree_util.tree_map_with_path(lambda path, _: is_weight(path_of(path)), params)


def _frozen(tx: optax.GradientTransformation, pattern: tuple[str, ...]) -> optax.GradientTransformation:
    def labels(params: Any) -> Any:
        frozen = matching(pattern, [path for path, _ in named_leaves(params)])
        return jax.tree_util.tree_map_with_path(lambda p, _: "frozen" if path_of(p) in frozen else "trained", params)

    return optax.transforms.partition({"trained": tx, "frozen": optax.set_to_zero()}, labels)
