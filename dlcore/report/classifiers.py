"""Figures of classifiers side by side: learning curves, robustness, calibration (lecture 22)."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE, GREEN, GREY, ORANGE
from dlcore.report.panel import Panel, panel

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", GREY)
MARKERS = "osD^vP"


def _lines(axes: Axes, x: Sequence[float], curves: Mapping[str, np.ndarray]) -> None:
    for i, (name, values) in enumerate(curves.items()):
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        axes.plot(x, values, markersize=4, linewidth=1.4, label=name.replace("_", " "), **style)
    axes.grid(alpha=0.25)


def learning_curves(counts: Sequence[int], scores: Mapping[str, np.ndarray]) -> Figure:
    """Test error and −log p(y|x) against the number of labelled training images, one curve per model.

    `scores` are (accuracy, nats) [counts, 2]. All axes are logarithmic; an error of 0 is left out.
    """
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    error = {name: 100 * (1 - values[:, 0]) for name, values in scores.items()}
    _lines(left, counts, {name: np.where(values > 0, values, np.nan) for name, values in error.items()})
    _lines(right, counts, {name: values[:, 1] for name, values in scores.items()})
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(list(counts), [f"{count:,}" for count in counts], fontsize=8)
        axes.minorticks_off()
        axes.set_xlabel("labelled training images")
    ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50, 100) if left.get_ylim()[0] <= t <= left.get_ylim()[1]]
    left.set_yticks(ticks, [f"{t:g}" for t in ticks])
    left.set_ylabel("test error (%)")
    right.set_ylabel("test −log p(y|x) (nats)")
    left.legend(frameon=False, fontsize=8)
    return figure


def curves_by_count(cells: Mapping[str, Mapping[str, np.ndarray]], order: Sequence[str]) -> dict[str, Panel]:
    """`learning_curves` of scores (accuracy, nats) by cell and model; a cell is called n and its number of labels.

    Cells may come in any order: those that were kept are read by name.
    """
    by_count = {int(cell.removeprefix("n")): scores for cell, scores in cells.items()}
    counts = sorted(by_count)
    found = {name: np.stack([by_count[count][name] for count in counts]) for name in order}
    return {"learning_curves": panel("classifiers.learning_curves", counts, found)}


def class_samples(
    images: np.ndarray, labels: np.ndarray, names: Sequence[str], gaussian: Mapping[str, np.ndarray]
) -> dict[str, Panel]:
    """Samples [n, h, w, c] in [0, 1] of the first classes in lines, and of Gaussian models, a column for each class."""
    lines = [(names[c], images[labels == c]) for c in np.unique(labels)]
    columns = [(name.replace("_", " "), np.asarray(drawn)) for name, drawn in gaussian.items()]
    return {
        "samples": panel("images.rows", lines, "x ~ p(x|y), a line for each class"),
        "samples_gaussian": panel("images.rows", columns, "x ~ p(x|y) of Gaussian models, a column for each class"),
    }


def robustness(
    fractions: Sequence[float], stds: Sequence[float], scores: Mapping[str, Mapping[str, np.ndarray]], chance: float
) -> Figure:
    """Accuracy against the fraction of missing pixels, and against the standard deviation of noise.

    `scores` are, by model, "missing" [fractions, 2] and "noise" [stds, 2] of (accuracy, nats).
    """
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, x, kind in ((left, fractions, "missing"), (right, stds, "noise")):
        _lines(axes, x, {name: 100 * found[kind][:, 0] for name, found in scores.items()})
        axes.axhline(100 * chance, color=GREY, linewidth=1, linestyle="--", label="chance")
        axes.set_ylim(0, 102)
    left.set(xlabel="fraction of missing pixels", ylabel="test accuracy (%)")
    right.set(xlabel="standard deviation of noise (pixels in [0, 1])")
    handles, names = right.get_legend_handles_labels()  # above the axes: accuracies cross all of them
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False, fontsize=8)
    return figure


def calibrations(found: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """Reliability diagrams side by side, from sums per bin (confidence, correct, count) of every model."""
    figure = Figure(figsize=(2.5 * len(found) + 0.4, 3.0), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, (name, (confidence, correct, count)) in zip(panels, found.items(), strict=True):
        used = count > 0
        mean, accuracy = confidence[used] / count[used], correct[used] / count[used]
        ece = np.abs(correct - confidence).sum() / max(count.sum(), 1)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        axes.plot(mean, accuracy, color=BLUE, linewidth=1, alpha=0.5)
        axes.scatter(mean, accuracy, s=6 + 120 * count[used] / count.sum(), color=BLUE, zorder=3)
        axes.set_title(f"{name.replace('_', ' ')}\nECE {ece:.2%}", fontsize=9)
        axes.set(xlabel="confidence", xlim=(0, 1.04), ylim=(0, 1.04))
        axes.grid(alpha=0.25)
    panels[0].set_ylabel("accuracy (area: fraction of images)", fontsize=9)
    return figure
