"""Figures of ensembles: methods side by side, and what averaging gains."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE, GREY, ORANGE


def methods(found: Mapping[str, Mapping[str, float]], count: int) -> Figure:
    """Test error (with its standard error over `count` examples) and calibration error of every method."""
    figure = Figure(figsize=(7.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    names = [name.replace("_", " ") for name in found]
    error = np.array([part["error"] for part in found.values()])
    ece = np.array([part["ece"] for part in found.values()])
    spread = np.sqrt(error * (1 - error) / count)
    left.bar(names, 100 * error, yerr=100 * spread, color=BLUE, capsize=3)
    left.set_ylabel("test error (%)")
    right.bar(names, 100 * ece, color=ORANGE)
    right.set_ylabel("expected calibration error (%)")
    for axes, values in ((left, error), (right, ece)):
        for i, value in enumerate(values):
            axes.text(i, 100 * value / 2, f"{100 * value:.2f}", ha="center", color="white", fontsize=9)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def average(errors: np.ndarray) -> Figure:
    """Squared error of the average of the first j members, and v/j + (j − 1) c/j, from errors [k, n, classes]."""
    k = len(errors)
    squares = np.square(errors).sum(-1).mean()
    whole = np.square(errors.mean(0)).sum(-1).mean()
    c = (k * whole - squares) / (k - 1)
    j = np.arange(1, k + 1)
    measured = [np.square(errors[:n].mean(0)).sum(-1).mean() for n in j]
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(j, squares / j + (j - 1) * c / j, color=BLUE, label=f"v/j + (j − 1) c/j, v = {squares:.4f}, c = {c:.4f}")
    axes.plot(j, measured, color=ORANGE, marker="o", linestyle="none", label="average of the first j members")
    axes.axhline(c, color=GREY, linestyle="--", linewidth=1, label="c: no number of members goes below")
    axes.axhline(squares / k, color=GREY, linestyle=":", linewidth=1, label="v/k: members with independent errors")
    axes.set_xticks(j)
    axes.set(xlabel="members j", ylabel="squared error of the probabilities", ylim=(0, None))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    return figure
