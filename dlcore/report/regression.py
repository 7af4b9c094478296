"""Panels of regression on a problem whose truth is known: bias and variance, capacity (lecture 1.4–1.8, 3)."""

from collections.abc import Mapping, Sequence
from typing import Any

from dlcore.report.panel import Panel, panel


def bias_and_variance(
    found: Mapping[str, Any], parts: Sequence[str], *, sets: int, examples: int, noise: float
) -> dict[str, Panel]:
    """Polynomials and ridge regression over repeated training sets, from `studies.repeated_regression`."""
    repeated = f"{sets} training sets of {examples} points"
    degree, penalty = found["by_degree"], found["by_penalty"]
    highest = len(degree["error"]) - 1
    strengths = [f"degree {highest}, α = {found['penalties'][i]:.3g}" for i in penalty["shown"]]
    return {
        "polynomials": panel(
            "studies.bias_variance",
            range(highest + 1),
            **{part: degree[part] for part in parts},
            xlabel="degree of the polynomial",
            noise=noise**2,
            title=f"least squares, {repeated}",
        ),
        "ridge": panel(
            "studies.bias_variance",
            found["penalties"],
            **{part: penalty[part] for part in parts},
            xlabel="ridge penalty α (less capacity to the right)",
            noise=noise**2,
            base=10,
            title=f"ridge regression of degree {highest}, {repeated}",
        ),
        "polynomial_fits": _fits(found, degree, [f"degree {d}" for d in degree["shown"]]),
        "ridge_fits": _fits(found, penalty, strengths),
    }


def capacity(found: Mapping[str, Any], *, examples: int, noise: float, folds: int) -> dict[str, Panel]:
    """Errors against the degree, and some of the fits, from `studies.nested_polynomials`."""
    highest = len(found["train"]) - 1
    shown = dict.fromkeys((1, int(found["chosen"]), highest))
    curves = {f"degree {degree}": found["curves"][degree] for degree in shown}
    return {
        "degrees": panel(
            "studies.capacity_curve",
            range(highest + 1),
            found["train"],
            found["test"],
            xlabel="degree of the polynomial",
            ylabel="mean squared error",
            validated=(found["validated_mean"], found["validated_stderr"]),
            floor=noise**2,
            title=f"least squares on {examples} points, {folds}-fold cross-validation",
        ),
        "fits": panel("studies.fits", found["x"], found["y"], found["grid"], found["truth"], curves),
    }


def _fits(found: Mapping[str, Any], kind: Mapping[str, Any], titles: Sequence[str]) -> Panel:
    curves = {title: kind["fits"][:, i] for i, title in enumerate(titles)}
    return panel("studies.spread", found["grid"], found["truth"], curves)
