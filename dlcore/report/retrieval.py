"""Figures of retrieval: precision against recall, what queries find, precision against the length of the code."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE, GREEN, GREY, ORANGE
from dlcore.report.images import show
from dlcore.report.text import shown

STYLES = ((BLUE, "-"), (ORANGE, "-"), (GREEN, "-"), (GREY, "-"), (GREY, "--"), (BLUE, "--"))


def precision_recall(curves: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "") -> Figure:
    """One curve per method, (precision, recall) of the items within radius 0, 1, …; means over the queries."""
    figure = Figure(figsize=(6.0, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (name, (precision, recall)), (colour, line) in zip(curves.items(), STYLES, strict=False):
        axes.plot(recall, precision, color=colour, linestyle=line, marker=".", label=name.replace("_", " "))
    axes.set(xlabel="recall", ylabel="precision", xlim=(-0.02, 1.02), ylim=(0, 1.02))
    axes.set_title(shown(title, 90), fontsize=10, parse_math=False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, title="a point per Hamming radius", title_fontsize=8)
    return figure


def grid(
    queries: np.ndarray,
    found: np.ndarray,
    right: np.ndarray,
    distance: np.ndarray,
    names: Sequence[str],
    title: str = "",
) -> Figure:
    """A line per query [q, h, w, c]: the image, its class, and its neighbours [q, k, h, w, c], nearest first, with
    their distance in bits, framed green where their class is right [q, k] and orange where it is not."""
    lines, columns = right.shape
    figure = Figure(figsize=(0.72 * (columns + 1) + 1.3, 0.86 * lines + 0.5))
    height = 0.86 * lines + 0.5
    figure.subplots_adjust(1.2 / figure.get_figwidth(), 0.03, 0.99, 1 - 0.6 / height, wspace=0.12, hspace=0.3)
    figure.suptitle(shown(title, 100), fontsize=10, parse_math=False)
    panels = figure.subplots(lines, columns + 1, squeeze=False)
    for i, line in enumerate(panels):
        show(line[0], queries[i])
        line[0].set_ylabel(shown(names[i], 14), rotation=0, ha="right", va="center", fontsize=8, parse_math=False)
        for j, axes in enumerate(line[1:]):
            show(axes, found[i, j])
            axes.set_title(f"{int(distance[i, j])}", fontsize=6, pad=2)
            for spine in axes.spines.values():
                spine.set(visible=True, color=GREEN if right[i, j] else ORANGE, linewidth=1.8)
    panels[0, 0].set_title("query", fontsize=7, pad=2)
    return figure


def lengths(
    bits: Sequence[int], curves: Mapping[str, Sequence[float]], trained: tuple[int, float], k: int, title: str = ""
) -> Figure:
    """Precision of the first k against the bits of a code, one curve per method, and the trained codes as a point."""
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.add_subplot()
    for (name, values), (colour, line) in zip(curves.items(), STYLES[1:], strict=False):
        axes.plot(bits, values, color=colour, linestyle=line, marker="o", markersize=4, label=name.replace("_", " "))
    axes.plot(*trained, color=BLUE, marker="*", markersize=14, linestyle="none", label="trained")
    axes.set_xscale("log", base=2)
    ticks = sorted({*bits, trained[0]})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="bits", ylabel=f"precision of the first {k}")
    axes.set_title(shown(title, 90), fontsize=10, parse_math=False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    return figure
