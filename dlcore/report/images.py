"""Figures made of images: labelled rows, and a sheet with axes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlcore.report.figures import image_grid
from dlcore.report.panel import Panel, panel
from dlcore.report.text import shown


def show(axes: Axes, image: np.ndarray) -> None:
    """Draw an image [h, w, c], uint8 or float in [0, 1], without ticks."""
    if image.dtype != np.uint8:
        image = np.clip(image, 0, 1)
    top = 255 if image.dtype == np.uint8 else 1
    axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=top)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def rows(labelled: Sequence[tuple[str, np.ndarray]], title: str = "") -> Figure:
    """One line per (label, images [n, h, w, c] in [0, 1]), the label at its left."""
    widest = max(len(images) for _, images in labelled)
    margin = 0.1 + 0.075 * max(len(label) for label, _ in labelled)
    size = (0.75 * widest + margin, 0.78 * len(labelled) + (0.4 if title else 0.1))
    figure = Figure(figsize=size, layout="compressed")
    axes = figure.subplots(len(labelled), 1, squeeze=False)[:, 0]
    for ax, (label, images) in zip(axes, labelled, strict=True):
        show(ax, image_grid(images, columns=widest, gap=1))
        ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def completions(images: np.ndarray, given: np.ndarray, drawn: Sequence[np.ndarray]) -> Panel:
    """Images [n, h, w, c] in [0, 1], what was given of them, and a line for each completion."""
    lines = [(f"completion {i + 1}", np.asarray(one)) for i, one in enumerate(drawn)]
    return panel("images.rows", [("image", np.asarray(images)), ("given", np.asarray(given)), *lines])


def named(images: np.ndarray, names: Sequence[str], columns: int = 6) -> Figure:
    """Images [n, h, w, c] in [0, 1], each with a name above it."""
    columns = min(columns, len(images))
    lines = -(-len(images) // columns)
    figure = Figure(figsize=(1.5 * columns, 1.7 * lines), layout="constrained")
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        axes = figure.add_subplot(lines, columns, i + 1)
        show(axes, image)
        axes.set_title(shown(name, 18), fontsize=8, parse_math=False)
    return figure


def sheet(images: np.ndarray, columns: int, title: str = "", x: str = "", y: str = "") -> Figure:
    """Images [n, h, w, c] side by side under a title, with a name for either direction."""
    grid = image_grid(images, columns=columns, gap=1)
    scale = 6.0 / max(grid.shape[:2])
    figure = Figure(figsize=(grid.shape[1] * scale + 0.4, grid.shape[0] * scale + 0.5), layout="constrained")
    axes = figure.add_subplot()
    show(axes, grid)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure
