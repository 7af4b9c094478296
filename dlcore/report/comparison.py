"""Groups of runs beside each other: every seed a point, and curves with the range of the seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE, GREEN, GREY, LABELS, ORANGE
from dlcore.report.text import shown

COLOURS = (BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00", GREY)
MARKERS = "osD^vP*"

Curve = Sequence[tuple[int, float]]


def dots(values: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """A panel for each metric: `values[metric][group]` are those of the seeds; the bar is mean ± standard deviation.

    A group has one colour in all panels, and its name where the panel at the left does not have it on the same line.
    """
    columns, most = min(3, len(values)), max(map(len, values.values()))
    lines, beside = -(-len(values) // columns), None
    groups = list(dict.fromkeys(group for found in values.values() for group in found))
    figure = Figure(figsize=(3.4 * columns + 1.6, (0.4 * most + 1.1) * lines), layout="constrained")
    for i, (metric, found) in enumerate(values.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        for at, (group, seeds) in enumerate(found.items()):
            colour = COLOURS[groups.index(group) % len(COLOURS)]
            axes.plot(seeds, np.full(len(seeds), at), ".", color=colour, alpha=0.5)
            std = np.std(seeds, ddof=1) if len(seeds) > 1 else 0.0
            axes.errorbar([np.mean(seeds)], [at + 0.2], xerr=[std], fmt="o", ms=4, color=colour, capsize=3)
        axes.set_ylim(len(found) - 0.4, -0.4)
        told = i % columns and beside == list(found)
        names, beside = [] if told else [shown(group, 40) for group in found], list(found)
        axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
        axes.set_xlabel(label(metric))
        axes.grid(alpha=0.25, axis="x")
    return figure


def curves(values: Mapping[str, Mapping[str, Sequence[Curve]]]) -> Figure:
    """A panel for each measured quantity: the mean over seeds against the step, and the range between them.

    `values[quantity][group]` are the curves of the seeds; where they end at different steps the shortest counts.
    """
    columns = min(3, len(values))
    lines = -(-len(values) // columns)
    figure = Figure(figsize=(3.8 * columns, 3.0 * lines), layout="constrained")
    for i, (quantity, groups) in enumerate(values.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        for at, (name, found) in enumerate(groups.items()):
            most = min(map(len, found))
            steps = [step for step, _ in found[0][:most]]
            heights = np.array([[value for _, value in curve[:most]] for curve in found])
            colour, marker = COLOURS[at % len(COLOURS)], MARKERS[at % len(MARKERS)]
            axes.plot(steps, heights.mean(0), marker, color=colour, ls="-", ms=3, lw=1.2, label=shown(name, 40))
            axes.fill_between(steps, heights.min(0), heights.max(0), color=colour, alpha=0.2, lw=0)
        axes.set_xlabel("step")
        axes.set_ylabel(label(quantity))
        axes.grid(alpha=0.25)
        if i == 0:
            axes.legend(frameon=False, fontsize=7)
    return figure


def label(metric: str) -> str:
    """The quantity in words, with its unit where it has one."""
    name = metric.split("/")[-1]
    return LABELS.get(name, name.replace("_", " "))
