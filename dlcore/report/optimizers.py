"""Figures of optimisers on a network: a race, studies of rates, batches and momentum, spectra (lecture 5–7)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from dlcore.report.figures import BLUE, GREEN, GREY, ORANGE
from dlcore.report.panel import Panel, panel
from dlcore.report.surfaces import COLOURS, DASHES


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
    left.set_xlabel("step")
    for i, (name, values) in enumerate(final.items()):
        _final(right, rates, values, start, color=COLOURS[i], label=name)
    _rate_axis(right, start)
    _loss_axis(left)
    left.axhline(start, color=GREY, linestyle="--", linewidth=1)
    # After the scale is logarithmic: a linear one would begin below 0.
    left.set_ylim(top=3 * start)
    left.set_title("too small creeps, too large leaps out", fontsize=10)
    right.set_title("good rates lie just below the edge", fontsize=10)
    return figure


def rate_studies(
    rates: Sequence[float], alphas: Sequence[float], losses: np.ndarray, steps: np.ndarray, start: float
) -> dict[str, Panel]:
    """Panels of learning rates without and with momentum, and of the map of both.

    `losses` [alphas, rates, steps] are training losses on the way, those of the first α without momentum; `start` is
    the loss before.
    """
    # A run that is above twice where it began has left for good.
    final = np.where(losses[..., -1] < 2 * start, losses[..., -1], np.inf)
    named = {f"α = {alpha:g}": row for alpha, row in zip(alphas, final, strict=True)}
    middle = len(rates) // 2
    return {
        "learning_rate": panel("optimizers.learning_rates", rates, steps, losses[0], start, named),
        "momentum": panel("optimizers.momentum", rates, alphas, final, steps, losses[:, middle], rates[middle]),
    }


def race(rates: Sequence[float], steps: np.ndarray, losses: Mapping[str, np.ndarray], start: float) -> Figure:
    """Left the training loss of every method at its own best rate, right the last one by rate, `losses[name]` [rates,
    steps].

    The best is that with the least last loss; a method whose every run diverged is missing on the left.
    """
    figure = Figure(figsize=(9.6, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (name, ways) in enumerate(losses.items()):
        final = np.where(ways[:, -1] < 2 * start, ways[:, -1], np.inf)
        best, style = int(final.argmin()), {"color": COLOURS[i], "linestyle": DASHES[i]}
        if np.isfinite(final[best]):
            left.plot(steps, ways[best], **style, linewidth=1.4, label=f"{name}, ε = {rates[best]:g}")
        _final(right, rates, final, start, **style)
    left.set(xlabel="step")
    _loss_axis(left)
    _rate_axis(right, start)
    left.set_title("each at its own best rate, from one start, the same batches", fontsize=10)
    right.set_title("how much the choice of the rate matters", fontsize=10)
    named = left.get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure


def _final(axes: Axes, rates: Sequence[float], values: np.ndarray, start: float, **style: Any) -> None:
    """Last losses by rate; those at twice the start's or beyond are crosses at the top."""
    gone = ~(values < 2 * start)
    axes.plot(rates, np.where(gone, np.nan, values), marker="o", markersize=4, **style)
    axes.plot(np.asarray(rates)[gone], np.full(gone.sum(), 3 * start), "x", color=style["color"], markersize=7)


def _rate_axis(axes: Axes, start: float) -> None:
    axes.axhline(start, color=GREY, linestyle="--", linewidth=1)
    axes.plot([], [], color=GREY, linestyle="--", label="at the start")
    axes.plot([], [], "x", color=GREY, label="diverged")
    axes.set(xlabel="learning rate ε", xscale="log")
    axes.legend(frameon=False, fontsize=8, loc="best")
    _loss_axis(axes)
    axes.set_ylabel("training loss after all steps (nats)")


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
    noise: Mapping[str, np.ndarray],
    rate: float,
) -> Figure:
    """Losses [sizes, steps] against examples seen, and the variance of the mini-batch gradient against its size.

    `noise` holds arrays [m]: `sizes`, the `measured` E‖ĝ − g‖² and its standard `error`, what is predicted `with`
    replacement, σ²/k, and `without`, σ²/k · (n − k)/(n − 1).
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
    at = noise["sizes"]
    panels[2].plot(at, noise["with"], color=GREY, linestyle="--", linewidth=1.2, label="σ²/k")
    panels[2].plot(at, noise["without"], color=BLUE, linewidth=1.2, label="σ²/k · (n − k)/(n − 1)")
    bars = {"color": ORANGE, "markersize": 5, "capsize": 2, "label": "measured, without replacement"}
    panels[2].errorbar(at, noise["measured"], 2 * noise["error"], fmt="o", **bars)
    panels[2].set(xlabel="batch size k", ylabel="E‖ĝ − g‖²", xscale="log", yscale="log")
    panels[2].set_title("noise of the gradient after training", fontsize=10)
    panels[2].legend(frameon=False, fontsize=8)
    panels[2].grid(alpha=0.25)
    return figure


def spectrum(at: np.ndarray, density: np.ndarray, extremes: tuple[float, float], unit: float, title: str) -> Figure:
    """The density of the Hessian's eigenvalues, with λmin and λmax marked.

    The axis is asinh(λ/`unit`): linear within the unit around 0 and logarithmic on either side.
    """
    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.fill_between(at, density, color=BLUE, alpha=0.35, linewidth=0)
    axes.plot(at, density, color=BLUE, linewidth=1.2)
    axes.set_xscale("asinh", linear_width=unit)
    powers = 10.0 ** np.arange(np.ceil(np.log10(2 * unit)), np.ceil(np.log10(2 * max(map(abs, extremes)))))
    ticks = np.concatenate([-powers[::-1], [0], powers])
    axes.set_xticks([tick for tick in ticks if at[0] <= tick <= at[-1]])
    axes.xaxis.set_major_formatter(lambda tick, _: f"{tick:g}".replace("-", "−"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yscale("log")
    for name, value, colour in (("λmin", extremes[0], ORANGE), ("λmax", extremes[1], GREEN)):
        axes.axvline(value, color=colour, linewidth=1.4, label=f"{name} = {value:.3g}".replace("-", "−"))
    # Low enough for single eigenvalues far out to be seen.
    axes.set_ylim(0.2 * min(np.interp(extremes, at, density)), 3 * density.max())
    axes.set(xlabel="eigenvalue λ of the Hessian", ylabel="density (per unit of λ)")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.25)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    return figure
