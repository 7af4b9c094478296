"""Figures of a diffusion: its schedule, its loss by time, and how images come out of noise."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE, GREEN, GREY, ORANGE
from dlcore.report.images import rows
from dlcore.report.panel import Panel, panel

COLOURS = (BLUE, ORANGE, GREEN, GREY)


def schedules(alpha_bars: Mapping[str, np.ndarray], used: str) -> Figure:
    """ᾱ_t and the log signal-to-noise ratio against t/T, one line per schedule ᾱ_0 … ᾱ_T, the one `used` drawn bold."""
    figure = Figure(figsize=(7.6, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, (name, alpha_bar) in zip(COLOURS, alpha_bars.items(), strict=False):
        along, share = np.linspace(0, 1, len(alpha_bar))[1:], alpha_bar[1:]
        style = {"color": colour, "label": name, "linewidth": 2.4 if name == used else 1.1}
        left.plot(along, share, **style)
        right.plot(along, np.log(share) - np.log1p(-share), **style)
    left.set_ylabel("signal left ᾱ")
    right.set_ylabel("log signal-to-noise ratio (nats)")
    for axes in (left, right):
        axes.set_xlabel("t / T")
        axes.grid(alpha=0.25)
    left.legend(frameon=False, fontsize=8)
    return figure


def by_time(times: np.ndarray, errors: Mapping[str, np.ndarray], terms: np.ndarray) -> Figure:
    """Mean squared error by kind of prediction, and the terms of the bound in bits/dim, against t on a log scale."""
    figure = Figure(figsize=(7.6, 3.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for colour, (name, values) in zip(COLOURS, errors.items(), strict=False):
        left.plot(times, values, color=colour, label=name, marker="o", markersize=3, linewidth=1.2)
    right.plot(times, terms, color=BLUE, marker="o", markersize=3, linewidth=1.2)
    left.set_ylabel("mean squared error")
    left.legend(frameon=False, fontsize=8)
    right.set_ylabel("term of the bound (bits/dim)")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("t")
        axes.grid(alpha=0.25)
    return figure


def denoising(path: np.ndarray, times: Sequence[int]) -> Figure:
    """A path of samples [s, n, h, w, c] in [0, 1] from noise to data, a line per kept time."""
    return rows([(f"t = {t}", images) for t, images in zip(times, path, strict=True)], "from noise to data")


def from_noise(path: np.ndarray, times: np.ndarray, title: str) -> dict[str, Panel]:
    """A path of samples [s + 1, n, h, w, c] in [0, 1]: its end as a sheet, and eight times of ten of them.

    `times` [s + 1] are those of the schedule, from the data on, so in the reverse order of the path.
    """
    kept = np.unique(np.linspace(0, len(path) - 1, 8).round().astype(int))
    return {
        "samples": panel("images.sheet", path[-1], 10, title),
        "denoising": panel("diffusion.denoising", path[kept, :10], times[::-1][kept]),
    }
