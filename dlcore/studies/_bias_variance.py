"""Bias and variance over many training sets of a problem whose truth is known (lecture 3.1–3.5)."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.stats import EstimatorStudy, consistency, summarize
from dlcore.studies._polynomial import fit_degrees, fit_ridge, predict, problem, truth
from dlcore.types import Key

PARTS = ("bias_squared", "variance", "error")
KEPT = 500
"""Fits of one kind that are kept to be drawn."""
ESTIMATORS = (
    "1/m variance (biased by −σ²/m)",
    "1/(m − 1) variance",
    "(x₁ − x₂)²/2: unbiased, not consistent",
)


def decompose(
    predictions: Float[Array, "sets *points"], target: Float[Array, "*points"]
) -> dict[str, Float[Array, "*points"]]:
    """bias², variance and squared error of predictions over training sets at every point, by the names in `PARTS`."""
    found: EstimatorStudy = summarize(predictions, target)
    return dict(zip(PARTS, (jnp.square(found.bias), found.variance, found.mse), strict=True))


def repeated_regression(
    key: Key, *, sets: int, examples: int, noise: float, degree: int, penalties: Float[np.ndarray, " p"]
) -> dict[str, Any]:
    """Polynomials of every degree, and ridge regression at the highest, on the same training sets, in float64.

    Under `by_degree` and `by_penalty`: the parts of the error by `decompose`, means over the points of `grid`, and the
    predictions of some `fits` [kept, shown, points], of the capacities `shown`.
    """
    with jax.enable_x64(True):
        grid = jnp.linspace(-1.0, 1.0, 101)
        expected = truth(grid)

        def one(key: Key) -> tuple[Array, Array]:
            x, y = problem(key, examples, noise)
            plain = fit_degrees(x, y, degree)
            ridge = fit_ridge(x, y, degree, jnp.asarray(penalties))
            return predict(plain, grid), predict(ridge, grid)

        kinds = zip(("by_degree", "by_penalty"), jax.jit(jax.vmap(one))(jax.random.split(key, sets)), strict=True)
        found: dict[str, Any] = {"grid": np.asarray(grid), "truth": np.asarray(expected), "penalties": penalties}
        for kind, fits in kinds:
            parts = decompose(fits, jnp.broadcast_to(expected, fits.shape[1:]))
            means = {name: np.asarray(values.mean(-1)) for name, values in parts.items()}
            last = fits.shape[1] - 1
            shown = [*dict.fromkeys((1 if kind == "by_degree" else 0, int(means["error"].argmin()), last))]
            found[kind] = {**means, "shown": np.array(shown), "fits": np.asarray(fits[:KEPT, jnp.array(shown)])}
    return found


def regression_metrics(found: Mapping[str, Any]) -> dict[str, float]:
    """The least errors, and where they are; `identity_error` is the largest |MSE − bias² − variance|."""
    degree, penalty = found["by_degree"], found["by_penalty"]
    gap = max(float(np.abs(d["error"] - d["bias_squared"] - d["variance"]).max()) for d in (degree, penalty))
    return {
        "polynomial_best_degree": float(degree["error"].argmin()),
        "polynomial_best_error": float(degree["error"].min()),
        "ridge_best_penalty": float(found["penalties"][penalty["error"].argmin()]),
        "ridge_best_error": float(penalty["error"].min()),
        "identity_error": gap,
    }


def variances(sample: Float[Array, " m"]) -> Float[Array, " three"]:
    """Three estimates of a variance, in the order of `ESTIMATORS`."""
    return jnp.stack([sample.var(), sample.var(ddof=1), jnp.square(sample[0] - sample[1]) / 2])


def _standard_normal(key: Key, m: int) -> Array:
    """A sample whose variance is 1."""
    return jax.random.normal(key, (m,))


def variance_estimators(
    key: Key, sizes: Sequence[int], epsilon: float, repeats: int = 4000
) -> Float[np.ndarray, "sizes three"]:
    """How often each of `variances` is further than ε from the truth, by the size of the sample."""
    return np.asarray(consistency(key, _standard_normal, variances, jnp.ones(3), sizes, epsilon, repeats))
