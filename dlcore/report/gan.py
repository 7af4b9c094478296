"""Figures of a GAN: classes of its samples, what the discriminator says, and points in the plane."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE, GREEN, GREY, ORANGE

COLOURS = (BLUE, GREEN, ORANGE, GREY)


def histogram(counts: np.ndarray, expected: np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """Samples per class as shares of all, beside the shares of the real data."""
    figure = Figure(figsize=(max(4.0, 0.5 * len(names) + 2), 3.0), layout="constrained")
    axes, places = figure.add_subplot(), np.arange(len(names))
    axes.bar(places - 0.2, expected, width=0.4, color=GREY, label="data")
    axes.bar(places + 0.2, counts / max(counts.sum(), 1), width=0.4, color=BLUE, label="samples")
    rotate = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 3 else {}
    axes.set_xticks(places, names, **rotate)
    axes.set_ylabel("share")
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    return figure


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
