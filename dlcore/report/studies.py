"""Figures of the studies: capacity, bias and variance, universal approximation, consistency."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE, GREEN, GREY, ORANGE
from dlcore.report.text import shown


def capacity_curve(
    capacity: Sequence[int],
    train: np.ndarray,
    test: np.ndarray,
    *,
    xlabel: str,
    ylabel: str,
    validated: tuple[np.ndarray, np.ndarray] | None = None,
    floor: float | None = None,
    logarithmic: bool = False,
    title: str = "",
) -> Figure:
    """Training and test error against capacity with the gap between them shaded (lecture 1.4–1.6).

    `validated` is the cross-validated error with its standard error, whose smallest value is marked as the choice;
    `floor` an error that no model falls below. The errors' axis is logarithmic; `logarithmic` makes the other so.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(capacity, train, test, color=GREY, alpha=0.15, linewidth=0, label="generalisation gap")
    axes.plot(capacity, train, color=BLUE, marker="o", markersize=4, label="training error")
    axes.plot(capacity, test, color=GREEN, marker="o", markersize=4, label="test error")
    if validated is not None:
        mean, stderr = validated
        axes.errorbar(
            capacity, mean, stderr, color=ORANGE, marker="s", markersize=4, linewidth=1, capsize=2,
            linestyle="--", label="cross-validated error",
        )  # fmt: skip
        best = int(np.argmin(mean))
        axes.axvline(capacity[best], color=ORANGE, linewidth=1, linestyle=":", label=f"chosen: {capacity[best]}")
    if floor is not None:
        axes.axhline(floor, color=GREY, linewidth=1, linestyle="--", label="noise")
    _scales(axes, capacity, logarithmic)
    positive = np.concatenate([train, test])
    high = min(positive.max(), 30 * np.median(test))
    axes.set_ylim(positive[positive > 0].min() / 1.5, 1.5 * high)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(shown(title, 100), fontsize=10, parse_math=False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def _scales(axes: Axes, capacity: Sequence[int], logarithmic: bool) -> None:
    axes.set_yscale("log")
    if logarithmic:
        axes.set_xscale("log", base=2)
    axes.set_xticks(list(capacity), [str(c) for c in capacity])
    axes.minorticks_off()
    axes.grid(alpha=0.25)


def fits(
    x: np.ndarray,
    y: np.ndarray,
    grid: np.ndarray,
    truth: np.ndarray,
    curves: Mapping[str, np.ndarray],
) -> Figure:
    """One panel per curve over the same points: too stiff, about right, too flexible."""
    figure = Figure(figsize=(3.3 * len(curves), 3.2), layout="constrained")
    panels = figure.subplots(1, len(curves), sharex=True, sharey=True, squeeze=False)[0]
    room = 0.35 * np.ptp(y)
    for axes, (name, values) in zip(panels, curves.items(), strict=True):
        axes.plot(grid, truth, color=GREY, linestyle="--", linewidth=1.2, label="truth")
        axes.plot(grid, values, color=BLUE, linewidth=1.6, label="fit")
        axes.plot(x, y, "o", color=ORANGE, markersize=4, label="training points")
        axes.set_title(name, fontsize=10)
        axes.set(xlabel="x", ylim=(y.min() - room, y.max() + room))
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("y")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def approximations(
    x: np.ndarray, target: np.ndarray, widths: Sequence[int], values: np.ndarray, rms: np.ndarray, largest: np.ndarray
) -> Figure:
    """Left, networks of growing width over the function; right, their errors against the width (lecture 8.7)."""
    figure = Figure(figsize=(10.2, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.35, 1))
    left.plot(x, target, color="black", linestyle="--", linewidth=1.4, label="function")
    shown = sorted({0, len(widths) // 3, 2 * len(widths) // 3, len(widths) - 1})
    for i, colour in zip(shown, (ORANGE, GREEN, BLUE, GREY), strict=False):
        units = "unit" if widths[i] == 1 else "units"
        left.plot(x, values[i], color=colour, linewidth=1.4, label=f"{widths[i]} {units}")
    left.set(xlabel="x", ylabel="f(x)")
    right.plot(widths, largest, color=ORANGE, marker="s", markersize=4, label="largest error")
    right.plot(widths, rms, color=BLUE, marker="o", markersize=4, label="root mean square error")
    _scales(right, widths, logarithmic=True)
    right.set(xlabel="hidden units", ylabel="error on [−1, 1]")
    left.grid(alpha=0.25)
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    return figure


def spread(grid: np.ndarray, truth: np.ndarray, predictions: Mapping[str, np.ndarray], *, lines: int = 25) -> Figure:
    """One panel per model, predictions [sets, points]: some fits, their mean, and the truth (lecture 3.5)."""
    figure = Figure(figsize=(3.3 * len(predictions), 3.2), layout="constrained")
    panels = figure.subplots(1, len(predictions), sharex=True, sharey=True, squeeze=False)[0]
    room = 0.5 * np.ptp(truth)
    for axes, (name, values) in zip(panels, predictions.items(), strict=True):
        axes.plot(grid, values[:lines].T, color=BLUE, linewidth=0.6, alpha=0.3)
        axes.plot([], [], color=BLUE, linewidth=0.8, label="fits to single training sets")
        axes.plot(grid, values.mean(0), color=ORANGE, linewidth=1.8, label="mean of all fits")
        axes.plot(grid, truth, color="black", linestyle="--", linewidth=1.2, label="truth")
        axes.set_title(name, fontsize=10)
        axes.set(xlabel="x", ylim=(truth.min() - room, truth.max() + room))
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("y")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def bias_variance(
    capacity: Sequence[float],
    bias_squared: np.ndarray,
    variance: np.ndarray,
    error: np.ndarray,
    *,
    xlabel: str,
    noise: float | None = None,
    ylabel: str = "mean squared error",
    base: int | None = None,
    title: str = "",
) -> Figure:
    """Bias² and variance against capacity, and the error that they add up to, plus the noise if there is some.

    The axis of capacity is logarithmic to `base`, if there is one; every capacity is labelled unless it is 10.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(capacity, bias_squared, color=BLUE, marker="o", markersize=4, label="bias²")
    axes.plot(capacity, variance, color=ORANGE, marker="o", markersize=4, label="variance")
    total, name = (error, "error = bias² + variance")
    if noise is not None:
        axes.axhline(noise, color=GREY, linestyle="--", linewidth=1, label="noise σ²")
        total, name = error + noise, "expected test error = bias² + variance + noise"
    axes.plot(capacity, total, color=GREEN, linewidth=2, label=name)
    best = int(np.argmin(total))
    axes.plot(capacity[best], total[best], marker="*", color=GREEN, markersize=12, linestyle="none", label="smallest")
    axes.set_yscale("log")
    axes.grid(alpha=0.25)
    if base:
        axes.set_xscale("log", base=base)
    if base != 10:
        axes.set_xticks(list(capacity), [str(c) for c in capacity])
    low = min(bias_squared.min(), variance.min())
    axes.set_ylim(low / 1.5, min(1.6 * total.max(), 100 * total.min()))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(shown(title, 100), fontsize=10, parse_math=False)
    axes.legend(frameon=False, fontsize=8)
    return figure


def consistency(sizes: Sequence[int], curves: Mapping[str, np.ndarray], epsilon: float, *, title: str = "") -> Figure:
    """P(|θ̂ − θ| > ε) against the number of examples, one curve per estimator (lecture 3.4)."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, values), colour in zip(curves.items(), (BLUE, GREEN, ORANGE, GREY), strict=False):
        axes.plot(sizes, values, color=colour, marker="o", markersize=4, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(sizes), [str(size) for size in sizes])
    axes.set(xlabel="examples m", ylabel=f"P(|θ̂ − θ| > {epsilon:g})", ylim=(-0.03, 1.03))
    axes.set_title(shown(title, 100), fontsize=10, parse_math=False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    return figure
