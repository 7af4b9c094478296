"""Figures of a GAN: classes of its samples, what the discriminator says, and points in the plane."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE, GREEN, GREY, LARGEST_SIDE, ORANGE, name_ticks
from dlcore.report.latent import circle
from dlcore.report.panel import Panel, panel

COLOURS = (BLUE, GREEN, ORANGE, GREY)


def histogram(counts: np.ndarray, expected: np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """Samples per class as fractions of all, beside those of the real data."""
    width = min(max(4.0, 0.5 * len(names) + 2), LARGEST_SIDE)
    figure = Figure(figsize=(width, 3.0), layout="constrained")
    axes, places = figure.add_subplot(), np.arange(len(names))
    shares = counts / max(counts.sum(), 1)
    if len(names) <= 100:
        axes.bar(places - 0.2, expected, width=0.4, color=GREY, label="data")
        axes.bar(places + 0.2, shares, width=0.4, color=BLUE, label="samples")
    else:  # thousands of bars take long to draw, and are too thin to see
        edges = np.arange(len(names) + 1) - 0.5
        axes.stairs(expected, edges, fill=True, color=GREY, label="data")
        axes.stairs(shares, edges, color=BLUE, label="samples")
    name_ticks(axes.xaxis, names, width - 2)
    axes.set_ylabel("fraction")
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper right")  # the best place is slow to find among many bars
    return figure


def spread_over_classes(report: Any, names: Sequence[str]) -> Panel:
    """The histogram of a `dlcore.evaluation.collapse.Report`, titled with the problems that it finds, if any."""
    healthy = f"{report.covered()} of {len(report.expected)} classes, diversity {report.diversity:.2f}"
    return panel("gan.histogram", report.histogram, report.expected, names, "\n".join(report.problems()) or healthy)


def over_plane(
    score: Callable[[np.ndarray], Any], real: np.ndarray, samples: np.ndarray, name: str, side: float = 4.5
) -> Panel:
    """`plane` with the scores that `score` gives at points float32 [n, 2]."""
    ticks = np.linspace(-side, side, 80, dtype=np.float32)
    grid = np.asarray(score(np.stack(np.meshgrid(ticks, ticks), -1).reshape(-1, 2))).reshape(80, 80)
    return panel("gan.plane", real, samples, grid, side, name)


def gallery(
    samples: np.ndarray, near: np.ndarray, images: Callable[[np.ndarray], np.ndarray], ends: np.ndarray
) -> dict[str, Panel]:
    """A sheet of samples [n, h, w, c] in [0, 1], the training images that are nearest to the first of them, and lines
    along circles between pairs of codes `ends` [k, 2, 1, d]; `images` decodes [10 k, d]."""
    codes = np.stack([circle(*pair) for pair in ends])
    lines = images(codes.reshape(-1, ends.shape[-1])).reshape(*codes.shape[:2], *samples.shape[1:])
    compared = [("sample", samples[: len(near)]), ("nearest training image", near)]
    return {
        "samples": panel("images.sheet", samples[:100], 10, "z ~ N(0, I)"),
        "neighbours": panel("images.rows", compared),
        "interpolation": panel("images.rows", [("", line) for line in lines], "between two codes, along a circle"),
    }


def scores(found: Mapping[str, np.ndarray], name: str = "D(x)") -> Figure:
    """How the discriminator's scores are spread, one line per kind of example, with the mean in the legend."""
    figure = Figure(figsize=(4.6, 3.0), layout="constrained")
    axes = figure.add_subplot()
    together = np.concatenate(list(found.values()))
    edges = np.linspace(together.min(), max(together.max(), together.min() + 1e-6), 41)
    for colour, (kind, values) in zip(COLOURS, found.items(), strict=False):
        label = f"{kind}, mean {values.mean():.2f}"
        axes.hist(values, edges, density=True, histtype="step", color=colour, linewidth=1.4, label=label)
    axes.set_xlabel(name)
    axes.set_ylabel("density")
    axes.legend(frameon=False, fontsize=8)
    return figure


def plane(real: np.ndarray, samples: np.ndarray, grid: np.ndarray, side: float, name: str = "D(x)") -> Figure:
    """Real points and samples [n, 2] over the scores, `grid` [m, m] over [−side, side]² with the lowest row first."""
    figure = Figure(figsize=(8.4, 3.8), layout="constrained")
    extent = (-side, side, -side, side)
    for axes, (label, points) in zip(figure.subplots(1, 2), {"data": real, "samples": samples}.items(), strict=True):
        shown = axes.imshow(grid, extent=extent, origin="lower", cmap="Greys", alpha=0.6)
        axes.scatter(*points.T, s=3, color=BLUE if label == "data" else ORANGE, linewidths=0)
        axes.set_title(label, fontsize=10)
        axes.set_xlim(-side, side)
        axes.set_ylim(-side, side)
        axes.set_aspect("equal")
    figure.colorbar(shown, ax=figure.axes, label=name, shrink=0.8)
    return figure
