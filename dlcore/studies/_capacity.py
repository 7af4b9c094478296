"""Polynomials of every degree on one training set, and the degree that cross-validation chooses (lecture 1.4–1.8)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.evaluation import choose
from dlcore.studies._polynomial import fit_degrees, predict, problem, truth
from dlcore.types import Batch, Key, Mean

FRESH = 10_000
"""Test points."""


def nested_polynomials(*, examples: int, noise: float, degree: int, folds: int) -> dict[str, Any]:
    """Nested polynomials on one training set, in float64; the degree is chosen without a look at the test points.

    `train` and `test` are mean squared errors by degree, the test's on many fresh points; `validated_mean` and
    `validated_stderr` those of the `folds`, by which a degree is `chosen`.
    """
    with jax.enable_x64(True):
        x, y = problem(jax.random.key(0), examples, noise)
        fresh_x, fresh_y = problem(jax.random.key(1), FRESH, noise)
        found = fit_degrees(x, y, degree)
        train = jnp.square(predict(found, x) - y).mean(-1)
        test = jnp.square(predict(found, fresh_x) - fresh_y).mean(-1)

        def fit(batch: Batch, chosen: Any, key: Key) -> Any:
            weight = batch["where"].astype(x.dtype)
            return fit_degrees(batch["x"], batch["y"], degree, weight=weight)[chosen]

        def score(coefficients: Any, batch: Batch) -> Mean:
            return Mean.of(jnp.square(predict(coefficients, batch["x"]) - batch["y"]), batch["where"])

        choice = choose(fit, score, {"x": x, "y": y}, jnp.arange(degree + 1), folds)
        grid = jnp.linspace(-1, 1, 301)
        kept = {
            "x": x,
            "y": y,
            "train": train,
            "test": test,
            "chosen": choice.index,
            "validated_mean": choice.scores.mean(),
            "validated_stderr": choice.scores.stderr(),
            "grid": grid,
            "truth": truth(grid),
            "curves": predict(found, grid),
        }
        return jax.tree.map(np.asarray, kept)


def polynomial_metrics(found: Mapping[str, Any]) -> dict[str, float]:
    """The degree that cross-validation chooses, and the best one on the test points."""
    chosen, test = int(found["chosen"]), found["test"]
    return {
        "polynomial_chosen_degree": float(chosen),
        "polynomial_best_degree": float(test.argmin()),
        "polynomial_chosen_mse": float(test[chosen]),
        "polynomial_best_mse": float(test.min()),
        "polynomial_highest_mse": float(test[-1]),
    }
