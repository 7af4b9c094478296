"""Methods by one protocol: what a map tells of the answer, and whether it depends on what was learned (lecture 17)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.types import Key
from dlcore.visualize import _metrics as metrics
from dlcore.visualize._methods import Question, Settings, attribution, integrated
from dlcore.visualize._score import probability


def compared(
    name: str,
    shown: Question,
    measured: Question,
    settings: Settings,
    *,
    baseline: Float[Array, "h w c"],
    groups: Sequence[str],
    curve_steps: int,
    key: Key,
) -> dict[str, Any]:
    """The `maps` of a method for the images that are shown, and its numbers over those that are measured.

    `deletion` and `insertion` are curves of the mean probability, with `baseline` in the place of what is gone; `kept`
    is the mean rank correlation of the shown images' maps as the parts `groups` forget, one after another; for
    integrated gradients `completeness` is the median error.
    """
    options = {"baseline": baseline, "key": key}
    maps, curve = attribution(name, measured, settings, **options), {"fill": baseline, "score": probability}
    found = {
        "maps": attribution(name, shown, settings, **options),
        "deletion": metrics.deletion(*measured, maps, steps=curve_steps, **curve).mean(0),
        "insertion": metrics.insertion(*measured, maps, steps=curve_steps, **curve).mean(0),
        "kept": _kept(name, shown, settings, options, groups),
    }
    if name == "integrated_gradients":
        whole = integrated(measured, settings, baseline, key)
        found["completeness"] = jnp.median(metrics.completeness_error(*measured, whole, baseline=baseline))
    return jax.tree.map(np.asarray, found)


def measures(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Numbers of methods from what `compared` gave: areas, and what is left of a map when all parts have forgotten."""
    told: dict[str, float] = {}
    for name, one in found.items():
        told |= {
            f"{curve}_{name}": float(metrics.area(jnp.asarray(one[curve])[None])[0])
            for curve in ("deletion", "insertion")
        }
        if name != "random":
            told[f"randomized_{name}"] = float(one["kept"][-1])
        if "completeness" in one:
            told["completeness_error"] = float(one["completeness"])
    return told


def _kept(name: str, shown: Question, settings: Settings, options: Any, groups: Sequence[str]) -> np.ndarray:
    """Mean rank correlations; a map without any differences, as a dead layer gives it, correlates with nothing: 0."""
    fresh, _ = shown.model.init(jax.random.fold_in(options["key"], 1), shown.x)
    again = lambda params: attribution(name, shown._replace(params=params), settings, **options)  # noqa: E731
    found = metrics.randomization(again, shown.params, fresh, [f"{group}/**" for group in groups])
    return np.nan_to_num(found).mean(1)
