"""Figures of surfaces and the ways down them: paths over contours, races, rates of descent (lecture 4–5)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE, GREEN, GREY, ORANGE

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", GREY)
"""One per method, told apart by colour-blind readers too (Okabe & Ito 2008)."""
DASHES = ("-", (0, (5, 1.5)), "-", (0, (1.5, 1)), "-", (0, (4, 1, 1, 1)), "-", "--")


class Landscape(NamedTuple):
    """A surface in the plane and the ways down it."""

    name: str
    low: Sequence[float] | np.ndarray
    high: Sequence[float] | np.ndarray
    values: np.ndarray
    """[m, m], the lowest row of y first."""
    least: float
    minima: np.ndarray
    """[k, 2]."""
    paths: Mapping[str, np.ndarray]
    """Points [steps + 1, 2] by name, the start first."""


def landscape(title: str, surface: Any, values: np.ndarray, paths: Mapping[str, np.ndarray]) -> Landscape:
    """A surface (`dlcore.optim.surfaces.Surface`), its `values` on a grid, and ways over it."""
    return Landscape(title, surface.low, surface.high, values, surface.value, surface.minima, paths)


def _contours(axes: Axes, panel: Landscape) -> None:
    x, y = (np.linspace(a, b, n) for a, b, n in zip(panel.low, panel.high, panel.values.shape[::-1], strict=True))
    above = np.maximum(panel.values - panel.least, 1e-12)
    levels = np.geomspace(max(np.quantile(above, 0.002), 1e-4), above.max(), 14)
    axes.contourf(x, y, above, levels, cmap="Greys", norm=LogNorm(levels[0], 8 * levels[-1]), extend="min", alpha=0.7)
    axes.contour(x, y, above, levels, colors="white", linewidths=0.5)
    axes.plot(*panel.minima.T, "*", color="#F0E442", markersize=13, markeredgecolor="black", zorder=6)
    axes.set(xlim=(panel.low[0], panel.high[0]), ylim=(panel.low[1], panel.high[1]))
    axes.set_xlabel("θ₁")
    axes.set_ylabel("θ₂")
    axes.set_title(panel.name, fontsize=10)


def paths(panels: Sequence[Landscape], *, columns: int = 2) -> Figure:
    """The ways of several methods over the contours of surfaces, in the order and colours of one legend.

    Circles mark starts, dots the first thirty steps, stars the minima, squares where a way ends inside the picture.
    """
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(4.4 * columns, 4.0 * lines + 0.9), layout="constrained")
    drawn = {}
    for panel, axes in zip(panels, figure.subplots(lines, columns, squeeze=False).flat, strict=False):
        _contours(axes, panel)
        for i, (name, points) in enumerate(panel.paths.items()):
            colour, dash = COLOURS[i % len(COLOURS)], DASHES[i % len(DASHES)]
            drawn[name] = axes.plot(*points.T, color=colour, linestyle=dash, linewidth=1.5, label=name, zorder=3)[0]
            axes.plot(*points[:30].T, ".", color=colour, markersize=3.5, zorder=4)
            axes.plot(*points[-1:].T, "s", color=colour, markersize=5, markeredgecolor="white", zorder=5)
        start = next(iter(panel.paths.values()))[0]
        axes.plot(*start, "o", color="white", markersize=7, markeredgecolor="black", zorder=6)
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=min(4, len(drawn)), frameon=False)
    figure.suptitle("circle: start · dots: the first thirty steps · square: end · star: minimum", fontsize=10)
    return figure


def race(
    ways: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]], *, columns: int = 2, floor: float = 1e-10
) -> Figure:
    """f − f* against evaluations, one panel per surface, `ways[surface][method] = (evaluations, f − f*)`.

    Values below `floor` are drawn there.
    """
    lines = -(-len(ways) // columns)
    figure = Figure(figsize=(4.4 * columns, 3.1 * lines + 0.9), layout="constrained")
    drawn = {}
    for (surface, methods), axes in zip(
        ways.items(), figure.subplots(lines, columns, squeeze=False).flat, strict=False
    ):
        for i, (name, (evaluations, gap)) in enumerate(methods.items()):
            style = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)], "linewidth": 1.5}
            drawn[name] = axes.plot(evaluations, np.maximum(gap, floor), **style)[0]
            axes.plot(evaluations[-1:], np.maximum(gap, floor)[-1:], "s", color=style["color"], markersize=4)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("evaluations of f, its gradient or a product")
        axes.set_ylabel("f(θ) − least value")
        axes.set_title(surface, fontsize=10)
        axes.grid(alpha=0.25)
    figure.legend(drawn.values(), drawn.keys(), loc="outside lower center", ncols=min(4, len(drawn)), frameon=False)
    return figure


def descent_rates(panel: Landscape, edge: float) -> Figure:
    """The surface `panel.name` once per way: descent with different rates, `edge` the one where it stops converging."""
    count = len(panel.paths)
    figure = Figure(figsize=(3.3 * count, 3.7), layout="constrained")
    for (name, points), axes in zip(panel.paths.items(), figure.subplots(1, count, squeeze=False)[0], strict=True):
        _contours(axes, panel._replace(name=name))
        axes.plot(*points.T, "-", color=BLUE, linewidth=1.1, zorder=3)
        axes.scatter(*points.T, c=np.arange(len(points)), cmap="autumn", s=10, zorder=4, norm=Normalize())
        axes.plot(*points[0], "o", color="white", markersize=7, markeredgecolor="black", zorder=6)
    figure.suptitle(f"{panel.name}: descent converges for ε < 2/λmax = {edge:.3g} (first steps red, last yellow)")
    return figure
