"""Figures of optimisation: paths over contours, races, studies of rates, batches and momentum, spectra."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from dlcore.report.figures import BLUE, GREEN, GREY, ORANGE

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", GREY)
"""One per method, told apart by colour-blind readers too (Okabe & Ito 2008)."""
DASHES = ("-", (0, (5, 1.5)), "-", (0, (1.5, 1)), "-", (0, (4, 1, 1, 1)), "-", "--")


class Panel(NamedTuple):
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


def _contours(axes: Axes, panel: Panel) -> None:
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


def paths(panels: Sequence[Panel], *, columns: int = 2, title: str = "") -> Figure:
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
    figure.suptitle(title, fontsize=11)
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


def _shades(values: Sequence[float] | np.ndarray) -> tuple[ScalarMappable, np.ndarray]:
    """One colour per value on a logarithmic scale, and the key to it."""
    scale = ScalarMappable(LogNorm(min(values), max(values)), "viridis")
    return scale, scale.to_rgba(np.asarray(values)) * np.array([0.92, 0.92, 0.92, 1])


def _loss_axis(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("training loss (nats)")
    axes.grid(alpha=0.25)


def learning_rates(
    rates: Sequence[float], steps: np.ndarray, losses: np.ndarray, start: float, final: Mapping[str, np.ndarray]
) -> Figure:
    """Left the training loss [rates, steps] on the way, right the last one by rate, one curve per entry of `final`.

    Losses that are not finite, or above ten times the start's, are those of runs that diverged: crosses at the top.
    """
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    scale, colours = _shades(rates)
    for colour, loss in zip(colours, losses, strict=True):
        left.plot(steps, np.where(loss < 10 * start, loss, np.nan), color=colour, linewidth=1.2)
    figure.colorbar(scale, ax=left, label="learning rate ε")
    left.set(xlabel="step", ylim=(None, 3 * start))
    ceiling = 3 * start
    for i, (name, values) in enumerate(final.items()):
        gone = ~(values < 2 * start)
        colour = COLOURS[i]
        right.plot(rates, np.where(gone, np.nan, values), "o-", color=colour, markersize=4, label=name)
        right.plot(np.asarray(rates)[gone], np.full(gone.sum(), ceiling), "x", color=colour, markersize=7)
    right.axhline(start, color=GREY, linestyle="--", linewidth=1, label="at the start")
    right.plot([], [], "x", color=GREY, label="diverged")
    right.set(xlabel="learning rate ε", xscale="log")
    right.legend(frameon=False, fontsize=8, loc="lower left")
    for axes in (left, right):
        _loss_axis(axes)
    right.set_ylabel("training loss after all steps (nats)")
    left.set_title("too small creeps, too large leaps out", fontsize=10)
    right.set_title("good rates lie just below the edge", fontsize=10)
    return figure


def momentum(
    rates: Sequence[float],
    alphas: Sequence[float],
    final: np.ndarray,
    steps: np.ndarray,
    curves: np.ndarray,
    rate: float,
) -> Figure:
    """Left the last training loss [alphas, rates] as a map, right the way for each α at one `rate` [alphas, steps].

    Grey cells diverged.
    """
    figure = Figure(figsize=(9.6, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    good = np.where(np.isfinite(final), final, np.nan)
    left.set_facecolor("#c8c8c8")
    shown = left.imshow(good, cmap="viridis_r", norm=LogNorm(np.nanmin(good), np.nanmax(good)), aspect="auto")
    for (i, j), value in np.ndenumerate(final):
        text = f"{value:.2g}" if np.isfinite(value) else "∞"
        dark = np.isfinite(value) and shown.norm(value) > 0.55
        left.text(j, i, text, ha="center", va="center", fontsize=8, color="black" if not dark else "white")
    left.set_xticks(range(len(rates)), [f"{rate:.2g}" for rate in rates])
    left.set_yticks(range(len(alphas)), [f"{alpha:g}" for alpha in alphas])
    left.set(xlabel="learning rate ε", ylabel="momentum α")
    left.set_title("training loss after all steps (nats)", fontsize=10)
    for i, (alpha, loss) in enumerate(zip(alphas, curves, strict=True)):
        right.plot(steps, loss, color=COLOURS[i % len(COLOURS)], linewidth=1.3, label=f"α = {alpha:g}")
    right.set_xlabel("step")
    _loss_axis(right)
    right.set_title(f"the way at ε = {rate:.2g}", fontsize=10)
    right.legend(frameon=False, fontsize=8)
    return figure


def batch_sizes(
    sizes: Sequence[int],
    steps: np.ndarray,
    losses: np.ndarray,
    noise: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    rate: float,
) -> Figure:
    """Losses [sizes, steps] against examples seen, and the variance of the mini-batch gradient against its size.

    `noise` holds sizes, the measured E‖ĝ − g‖², σ²/k, and σ²/k · (n − k)/(n − 1) for draws without replacement.
    """
    figure = Figure(figsize=(12.6, 3.9), layout="constrained")
    panels = figure.subplots(1, 3)
    colours = _shades(sizes)[1]
    for colour, size, loss in zip(colours, sizes, losses, strict=True):
        panels[0].plot(steps, loss, color=colour, linewidth=1.2, label=f"k = {size}")
        panels[1].plot(size * steps, loss, color=colour, linewidth=1.2)
    panels[0].set_xlabel("step")
    panels[1].set(xlabel="examples seen", xscale="log")
    for axes in panels[:2]:
        _loss_axis(axes)
    panels[0].legend(frameon=False, fontsize=8)
    panels[0].set_title(f"per step, ε = {rate:.2g}", fontsize=10)
    panels[1].set_title("per example: small batches are cheap", fontsize=10)
    at, measured, theory, finite = noise
    panels[2].plot(at, theory, color=GREY, linestyle="--", linewidth=1.2, label="σ²/k")
    panels[2].plot(at, np.where(finite > 0, finite, np.nan), color=BLUE, linewidth=1.2, label="without replacement")
    panels[2].plot(at, measured, "o", color=ORANGE, markersize=5, label="measured")
    panels[2].set(xlabel="batch size k", ylabel="E‖ĝ − g‖²", xscale="log", yscale="log")
    panels[2].set_title("noise of the gradient after training", fontsize=10)
    panels[2].legend(frameon=False, fontsize=8)
    panels[2].grid(alpha=0.25)
    return figure


def spectrum(at: np.ndarray, density: np.ndarray, extremes: tuple[float, float], title: str) -> Figure:
    """The density of the Hessian's eigenvalues, log–log on either side of 0, with λmin and λmax marked.

    The axis is linear within a thousandth of the largest |λ| and logarithmic beyond.
    """
    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(at, density, color=BLUE, alpha=0.35, linewidth=0)
    axes.plot(at, density, color=BLUE, linewidth=1.2)
    unit = 10 ** np.floor(np.log10(max(map(abs, extremes))) - 2.5)
    axes.set_xscale("symlog", linthresh=unit)
    powers = unit * 10.0 ** np.arange(1, 5)
    ticks = np.concatenate([-powers[::-1], [0], powers])
    axes.set_xticks([tick for tick in ticks if at[0] <= tick <= at[-1]])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yscale("log")
    for name, value, colour in (("λmin", extremes[0], ORANGE), ("λmax", extremes[1], GREEN)):
        axes.axvline(value, color=colour, linewidth=1.4, label=f"{name} = {value:.3g}")
    top = density.max()
    axes.set_ylim(1e-6 * top, 3 * top)
    axes.set(xlabel="eigenvalue λ of the Hessian", ylabel="density (per unit of λ)")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    return figure


def descent_rates(panel: Panel, edge: float) -> Figure:
    """The surface `panel.name` once per way: descent with different rates, `edge` the one where it stops converging."""
    count = len(panel.paths)
    figure = Figure(figsize=(3.3 * count, 3.7), layout="constrained")
    for (name, points), axes in zip(panel.paths.items(), figure.subplots(1, count, squeeze=False)[0], strict=True):
        _contours(axes, panel._replace(name=name))
        axes.plot(*points.T, "-", color=BLUE, linewidth=1.1, zorder=3)
        axes.scatter(*points.T, c=np.arange(len(points)), cmap="autumn", s=10, zorder=4, norm=Normalize())
        axes.plot(*points[0], "o", color="white", markersize=7, markeredgecolor="black", zorder=6)
    figure.suptitle(f"{panel.name}: descent converges for ε < 2/λmax = {edge:.3g}", fontsize=11)
    return figure
