"""Figures of transfer: accuracy against the number of labels, by method."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE, GREEN, GREY, ORANGE

STYLES = {"scratch": (GREY, "s"), "probe": (GREEN, "^"), "finetune": (BLUE, "o"), "gradual": (ORANGE, "D")}
NAMES = {"scratch": "from scratch", "probe": "linear probe", "finetune": "fine-tuned", "gradual": "gradually unfrozen"}


def curves(labels: Sequence[int], found: Mapping[str, np.ndarray], chance: float) -> Figure:
    """Test accuracy [sizes, seeds] of each method over labels per class: means, deviations between seeds, each seed."""
    figure = Figure(figsize=(7.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for i, (method, values) in enumerate(found.items()):
        colour, marker = STYLES.get(method, (f"C{i}", "v"))
        place = np.asarray(labels) * 1.03 ** (i - (len(found) - 1) / 2)
        mean, deviation = 100 * values.mean(1), 100 * values.std(1, ddof=1 if values.shape[1] > 1 else 0)
        axes.errorbar(
            place,
            mean,
            deviation,
            color=colour,
            marker=marker,
            capsize=3,
            label=NAMES.get(method, method),
            linewidth=1.4,
        )
        axes.plot(place, 100 * values, color=colour, marker=".", markersize=3, linestyle="none", alpha=0.5)
    axes.axhline(100 * chance, color=GREY, linestyle=":", linewidth=1, label="chance")
    axes.set_xscale("log")
    axes.set_xticks(labels, [f"{n}" for n in labels])
    axes.minorticks_off()
    seeds = next(iter(found.values())).shape[1]
    axes.set_xlabel("labelled images per class")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(f"five new classes: mean ± standard deviation over {seeds} seeds", fontsize=10)
    axes.grid(alpha=0.25)
    figure.legend(frameon=False, fontsize=8, loc="outside right center")
    return figure
