"""Figures of principal components: variance explained, components as images, errors against the length of the code."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from dlcore.report.figures import BLUE, GREEN, GREY, ORANGE
from dlcore.report.text import shown


def explained(ratio: np.ndarray, title: str = "") -> Figure:
    """Fraction of the variance that each component explains, and how many are needed for how much of it."""
    figure = Figure(figsize=(8.0, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    number, together = np.arange(1, len(ratio) + 1), np.cumsum(ratio)
    positive = ratio > 0
    left.plot(number[positive], ratio[positive], color=BLUE, marker=".", markersize=3, linewidth=1)
    left.set(yscale="log", xlabel="component", ylabel="fraction of the variance")
    right.plot(number, together, color=BLUE)
    for level, colour in ((0.8, GREY), (0.9, ORANGE), (0.95, GREEN)):
        if together[-1] >= level:
            count = int(np.searchsorted(together, level) + 1)
            right.plot([1, count, count], [level, level, 0], color=colour, linestyle="--", linewidth=1,
                       label=f"{level:.0%}: {count} components")  # fmt: skip
    right.set(xscale="log", xlabel="components", ylabel="fraction of the variance", ylim=(0, 1.02))
    for axes in (left, right):
        axes.grid(alpha=0.25)
    if right.get_legend_handles_labels()[0]:
        right.legend(framealpha=0.95, edgecolor="white", fontsize=8, loc="lower right")
    figure.suptitle(shown(title, 100), fontsize=10, parse_math=False)
    return figure


def directions(mean: np.ndarray, components: np.ndarray, ratio: np.ndarray, columns: int = 8) -> Figure:
    """The mean [h, w, c] and components [k, h, w, c] as images: red is positive, blue negative; in colour 0 is grey."""
    count = len(components) + 1
    columns = min(columns, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(1.15 * columns, 1.3 * lines + 0.1), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).reshape(-1)
    for axes in panels:
        axes.set_axis_off()
    panels[0].imshow(np.clip(mean, 0, 1).squeeze(), cmap="gray", vmin=0, vmax=1)
    panels[0].set_title("mean", fontsize=8)
    for i, (axes, component) in enumerate(zip(panels[1:], components, strict=False)):
        size = np.abs(component).max() or 1.0
        if component.shape[-1] == 1:
            axes.imshow(component.squeeze(-1), cmap="RdBu_r", vmin=-size, vmax=size)
        else:
            axes.imshow(0.5 + component / (2 * size))
        axes.set_title(f"{i + 1}: {ratio[i]:.1%}", fontsize=8)
    return figure


def errors(
    dims: Sequence[int],
    curves: Mapping[str, Sequence[float]],
    points: Mapping[str, tuple[int, float]],
    title: str = "",
) -> Figure:
    """Test error of reconstruction against the numbers of a code, by method, and single codes as points."""
    figure = Figure(figsize=(6.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, values), colour in zip(curves.items(), (BLUE, GREEN, GREY), strict=False):
        axes.plot(dims, values, color=colour, marker="o", markersize=4, label=name)
    for name, point in points.items():
        axes.plot(*point, color=ORANGE, marker="x", markersize=9, markeredgewidth=2, linestyle="none", label=name)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(list(dims), [str(k) for k in dims])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="numbers of the code k", ylabel="mean squared error per pixel (test)")
    axes.set_title(shown(title, 90), fontsize=10, parse_math=False)
    axes.grid(alpha=0.25, which="both")
    axes.legend(frameon=False, fontsize=8)
    return figure


def angles(found: np.ndarray, title: str = "") -> Figure:
    """Principal angles between two subspaces in radians, from the smallest."""
    figure = Figure(figsize=(6.0, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(np.arange(1, len(found) + 1), np.maximum(found, 1e-6), color=BLUE)
    axes.axhline(np.pi / 2, color=GREY, linestyle="--", linewidth=1)
    axes.text(0.5, np.pi / 2, "π/2: orthogonal", fontsize=8, color=GREY, va="bottom")
    axes.set(yscale="log", xlabel="principal angle", ylabel="radians", ylim=(None, 3), xlim=(0.4, len(found) + 0.6))
    axes.set_title(shown(title, 90), fontsize=10, parse_math=False)
    return figure
