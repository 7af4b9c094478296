"""Figures of codes: how large they are, how busy their units, what units look for, and where classes lie."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE, GREY, ORANGE
from dlcore.report.images import sheet
from dlcore.report.text import shown

MANY = 20
"""Up to so many classes have a colour and a name of their own."""


def histogram(codes: np.ndarray, threshold: float = 0.0, target: float | None = None) -> Figure:
    """Left all values of the codes [n, units]; right the units by their mean of |h|, and how often each is on.

    A unit is on where |h| is above the threshold. `target` is the mean that a penalty asks for.
    """
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.hist(codes.reshape(-1), bins=80, color=BLUE)
    left.set_yscale("log")
    left.set(xlabel="value of a unit", ylabel="number of codes")
    size, on = np.abs(codes).mean(0), (np.abs(codes) > threshold).mean(0)
    order = np.argsort(-size)
    place = np.arange(1, len(order) + 1)
    right.plot(place, size[order], color=BLUE, marker="o", markersize=3, label="mean of |h|")
    right.plot(
        place, on[order], color=ORANGE, marker="s", markersize=3, linestyle="none", label="fraction of images on"
    )
    if target is not None:
        right.axhline(target, color=GREY, linestyle="--", linewidth=1, label=f"target {target:g}")
    dead = int((on == 0).sum())
    right.set(xlabel="unit, by its mean", ylim=(0, None), title=f"{dead} of {len(on)} units dead" if dead else "")
    right.title.set_fontsize(10)
    right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.25)
    return figure


def plane(codes: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> Figure:
    """Codes [n, units] on their first two principal axes, by class if they have `names`; an axis names its
    fraction of the variance.

    The largest entry of an axis is positive, so that a map is not mirrored by chance.
    """
    centred = codes.astype(np.float64) - codes.mean(0)
    variances, axes_of = np.linalg.eigh(centred.T @ centred)
    first = axes_of[:, ::-1][:, :2]
    first = first * np.sign(np.take_along_axis(first, np.abs(first).argmax(0)[None], 0))
    shares = variances[::-1][:2] / max(variances.sum(), 1e-30)
    points = np.pad(centred @ first, ((0, 0), (0, 2 - first.shape[1])))
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    if not names:
        axes.scatter(*points.T, s=6, alpha=0.6, linewidths=0, color=BLUE)
    elif len(names) <= MANY:
        colours = colormaps["tab10" if len(names) <= 10 else "tab20"]
        for k, name in enumerate(names):
            own = points[labels == k]
            axes.scatter(*own.T, s=6, alpha=0.6, linewidths=0, color=colours(k), label=shown(name, 16))
        legend = axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
        for handle in legend.legend_handles:
            handle.set_alpha(1)
    else:
        axes.scatter(*points.T, s=6, alpha=0.6, linewidths=0, c=labels, cmap="viridis")
    for label, share, setter in zip(("first", "second"), shares, (axes.set_xlabel, axes.set_ylabel), strict=False):
        setter(f"{label} principal axis of the codes ({share:.0%} of the variance)")
    axes.grid(alpha=0.25)
    return figure


def filters(kernel: np.ndarray, title: str = "", most: int = 64) -> Figure:
    """Weights [h, w, c, m] into m units as images, the units of the largest norm first; grey is 0.

    The darkest and the brightest grey of each are plus and minus its largest weight.
    """
    units = np.moveaxis(kernel, -1, 0)
    flat = units.reshape(len(units), -1)
    chosen = np.argsort(-np.square(flat).sum(1), kind="stable")[:most]
    largest = np.maximum(np.abs(flat[chosen]).max(1), 1e-30)
    images = 0.5 + 0.5 * units[chosen] / largest[:, None, None, None]
    return sheet(images, 8, title)


def few_labels(cells: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]], title: str = "") -> Figure:
    """Test error against the number of labels, which ends a cell's name, for every start: mean and standard deviation
    over the seeds of `cells[cell][start]["error"]` [seeds]."""
    by_count = {int(cell.rpartition("_")[2]): starts for cell, starts in cells.items()}
    counts = sorted(by_count)
    figure = Figure(figsize=(5.8, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for name, colour in zip(by_count[counts[0]], (ORANGE, BLUE, GREY), strict=False):
        errors = 100 * np.stack([by_count[count][name]["error"] for count in counts])
        mean, deviation = errors.mean(1), errors.std(1, ddof=1)
        label = f"{name} start"
        axes.errorbar(counts, mean, deviation, color=colour, marker="o", markersize=4, capsize=3, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(counts), [f"{count:,}" for count in counts])
    low, high = axes.get_ylim()
    ticks = [t for t in (1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 40, 50, 70, 100) if low <= t <= high]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set(xlabel="labelled images", ylabel="test error (%)")
    axes.set_title(shown(title, 90), fontsize=10, parse_math=False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    return figure
