"""Figures of sizes through the layers of a network."""

from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure


def scaling(study: Mapping[str, Any], title: str) -> Figure:
    """Activations, gradients and singular values by layer for every scheme (`dlcore.studies.Scaling`).

    What is 0 has no place on a logarithmic axis and is named below.
    """
    figure = Figure(figsize=(11.0, 3.8), layout="constrained")
    panels = dict(zip(("activation", "gradient", "singular"), figure.subplots(1, 3), strict=True))
    colours = matplotlib.colormaps["tab10"].colors
    dead = [name for name, found in study.items() if not np.asarray(found.activation).any()]
    for colour, (name, found) in zip(colours, study.items(), strict=False):
        if name in dead:
            continue
        layers = np.arange(1, len(found.activation) + 1)
        panels["activation"].plot(layers, found.activation, color=colour, marker=".", label=name)
        panels["gradient"].plot(layers, found.gradient, color=colour, marker=".", label=name)
        values = np.asarray(found.singular)
        panels["singular"].plot(layers, values[:, 0], color=colour, label=name)
        panels["singular"].plot(layers, np.sqrt(np.square(values).mean(1)), color=colour, linestyle=":")
    titles = {
        "activation": "root mean square of the activations",
        "gradient": "root mean square of the gradients",
        "singular": "singular values of a layer: largest, and root mean square (dotted)",
    }
    for key, axes in panels.items():
        axes.set_yscale("log")
        axes.set_xlabel("layer l")
        axes.set_title(titles[key], fontsize=9)
        axes.grid(alpha=0.25)
    panels["activation"].legend(frameon=False, fontsize=7)
    figure.suptitle(title + (f"; all 0: {', '.join(dead)}" if dead else ""), fontsize=10)
    return figure
