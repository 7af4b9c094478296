"""Figures of what a network's answers rest on: maps, curves of scores, and places in images."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dlcore.report.figures import GREY, ORANGE
from dlcore.report.images import show
from dlcore.report.text import shown


def attributions(
    images: np.ndarray, maps: Mapping[str, np.ndarray], signed: Sequence[str], titles: Sequence[str]
) -> Figure:
    """Images [n, h, w, c] in [0, 1] in the first row, below it the maps [n, h, w] of each method.

    Maps of `signed` methods are red where they are positive and blue where they are negative; of the others, bright is
    large. Each map has a scale of its own.
    """
    count, lines = len(images), 1 + len(maps)
    figure = Figure(figsize=(0.95 * count + 1.6, 0.95 * lines + 0.4), layout="compressed")
    axes = figure.subplots(lines, count, squeeze=False)
    for ax, image, title in zip(axes[0], images, titles, strict=True):
        show(ax, image)
        ax.set_title(shown(title, 14), fontsize=7, parse_math=False)
    for row, (name, found) in zip(axes[1:], maps.items(), strict=True):
        _label(row[0], name.replace("_", " "))
        for ax, values in zip(row, found, strict=True):
            show_map(ax, values, name in signed)
    _label(axes[0, 0], "image")
    return figure


def show_map(axes: Axes, values: np.ndarray, signed: bool) -> None:
    """Draw a map [h, w] without ticks: by sign around 0, or from its least to its largest number."""
    largest = float(np.abs(values).max()) or 1.0
    scale = {"cmap": "RdBu_r", "vmin": -largest, "vmax": largest} if signed else {"cmap": "magma"}
    axes.imshow(values, **scale)
    axes.set_xticks([])
    axes.set_yticks([])


def _label(axes: Axes, name: str) -> None:
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)


def curves(deletion: Mapping[str, np.ndarray], insertion: Mapping[str, np.ndarray]) -> Figure:
    """Mean scores while pixels go, and while they come back, by method; "random" is the floor, in grey.

    The legends list the areas below the curves, the best method first.
    """
    figure = Figure(figsize=(11.0, 7.2), layout="constrained")
    panels = figure.subplots(1, 2)
    for ax, found, sign, title in zip(panels, (deletion, insertion), (1, -1), ("deletion", "insertion"), strict=True):
        areas = {name: float(((y[1:] + y[:-1]) / 2).mean()) for name, y in found.items()}
        for name in sorted(areas, key=lambda name, areas=areas, sign=sign: sign * areas[name]):
            y = found[name]
            ax.plot(
                np.linspace(0, 1, len(y)), y, label=f"{areas[name]:.3f} {name.replace('_', ' ')}", **_style(name, found)
            )
        ax.set(xlabel="fraction of pixels " + ("taken away" if sign > 0 else "shown"), ylim=(0, 1.02), xlim=(0, 1))
        ax.set_title(f"{title}: {'lower' if sign > 0 else 'higher'} is better", fontsize=10)
        ax.grid(alpha=0.25)
        ax.legend(
            frameon=False,
            fontsize=8,
            ncols=2,
            title="area, best first",
            loc="upper center",
            bbox_to_anchor=(0.5, -0.13),
        )
    panels[0].set_ylabel("probability of the predicted class")
    return figure


def forgetting(layers: Sequence[str], correlations: Mapping[str, np.ndarray]) -> Figure:
    """Rank correlation of the maps with those of the trained network, as its layers are drawn anew from the top.

    "random" is left out: it never depends on the network.
    """
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for name, y in correlations.items():
        if name == "random":
            continue
        axes.plot(
            range(len(layers) + 1), [1.0, *y], label=name.replace("_", " "), marker=".", **_style(name, correlations)
        )
    axes.axhline(0, color=GREY, linewidth=1, linestyle="--")
    names = ["none", *(f"{'+ ' if i else ''}{shown(layer, 14)}" for i, layer in enumerate(layers))]
    axes.set_xticks(range(len(layers) + 1), names, fontsize=8, parse_math=False)
    axes.set(xlabel="layers with random weights", ylabel="rank correlation with the trained network's map")
    axes.grid(alpha=0.25)
    figure.legend(frameon=False, fontsize=8, loc="outside right center")
    return figure


def _style(name: str, names: Mapping[str, np.ndarray]) -> dict[str, object]:
    """The same colour for a method in every figure; two kinds of lines, as there are more methods than colours."""
    if name == "random":
        return {"color": GREY, "linestyle": "--", "linewidth": 1.4}
    i = [other for other in names if other != "random"].index(name)
    return {"color": matplotlib.colormaps["tab10"].colors[i % 10], "linestyle": "-:"[i // 10 % 2], "linewidth": 1.4}


def channels(image: np.ndarray, outputs: Mapping[str, np.ndarray]) -> Figure:
    """An image [h, w, c] in [0, 1], and below it a row of channels [n, h, w, 1] for each part, all at one size."""
    count = max(len(found) for found in outputs.values())
    figure = Figure(figsize=(0.75 * count + 1.2, 0.8 * (1 + len(outputs))), layout="compressed")
    axes = figure.subplots(1 + len(outputs), count, squeeze=False)
    for line, (name, images) in zip(axes, {"image": image[None], **outputs}.items(), strict=True):
        for ax, one in zip(line, images, strict=False):
            show(ax, one)
        for ax in line[len(images) :]:
            ax.set_axis_off()
        _label(line[0], name)
    return figure


def places(images: np.ndarray, boxes: np.ndarray, labels: Sequence[str], title: str = "") -> Figure:
    """Images [rows, n, h, w, c] in [0, 1], each with a box [rows, n, 2, 2]: first and last pixel by axis."""
    lines, count = images.shape[:2]
    figure = Figure(figsize=(0.95 * count + 1.2, 0.95 * lines + 0.5), layout="compressed")
    axes = figure.subplots(lines, count, squeeze=False)
    for row, line in enumerate(axes):
        _label(line[0], labels[row])
        for ax, image, ((top, bottom), (left, right)) in zip(line, images[row], boxes[row], strict=True):
            show(ax, image)
            corner, sides = (left - 0.5, top - 0.5), (right - left + 1, bottom - top + 1)
            ax.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=ORANGE, linewidth=1.6, clip_on=False))
    figure.suptitle(title, fontsize=10)
    return figure
