"""Figures of a run, drawn on the host without a display."""

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from dlcore.report import curves as grouping
from dlcore.report.text import shown, width

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#8a8a8a"
COLOURS = {"train": BLUE, "validation": ORANGE, "test": GREEN}
LABELS = {
    "accuracy": "accuracy",
    "error": "error rate",
    "nll_nats": "negative log-likelihood (nats)",
    "ece": "calibration error",
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
}
LARGEST_LABEL, SMALLEST_LABEL = 10.0, 5.0
"""Sizes of tick labels in points."""
LARGEST_SIDE = 16.0
"""Inches that a figure has at most on a side that grows with the number of classes."""
LARGEST_IMAGE = 4096
"""Pixels on a side up to which small images are enlarged."""


def curves(rows: Sequence[Mapping[str, float]]) -> Figure:
    """One panel per quantity against the step, the splits over each other; `rows` are those of `metrics.jsonl`.

    Variants of a quantity (see `curves.read`) share a panel, each in a colour of its own, training dashed.
    """
    panels = grouping.ordered(grouping.read(rows))
    columns = min(3, max(1, len(panels)))
    lines = -(-max(1, len(panels)) // columns)
    figure = Figure(figsize=(3.6 * columns, 2.6 * lines), layout="constrained")
    for i, (quantity, drawn) in enumerate(panels.items()):
        axes = figure.add_subplot(lines, columns, i + 1)
        variants = list(dict.fromkeys(variant for _, variant in drawn))
        for (split, variant), points in drawn.items():
            steps, values = np.array(points).T
            marker = "o" if len(points) < 40 and split != "train" else None
            style = {"color": COLOURS.get(split, GREY), "label": split}
            if len(variants) > 1:
                twice = split == "train" and ("validation", variant) in drawn
                style = {"color": f"C{variants.index(variant) % 10}", "label": None if twice else variant or quantity}
                style |= {"linestyle": "--"} if twice else {}
            axes.plot(steps, values, linewidth=1.4, marker=marker, markersize=3, **style)
        values = [value for points in drawn.values() for _, value in points]
        if quantity in ("loss", "nll_nats", "gradient_norm") and 0 < 10 * min(values) < max(values):
            axes.set_yscale("log")
        else:
            axes.ticklabel_format(axis="y", useOffset=False)
        axes.set_xlabel("step")
        axes.set_ylabel(LABELS.get(quantity, quantity.replace("_", " ")))
        axes.grid(alpha=0.25)
        if len(variants) > 1 or {split for split, _ in drawn} - {"", "train"}:
            axes.legend(frameon=False, fontsize=8 if len(variants) < 6 else 6, ncols=1 + (len(variants) > 5))
    return figure


def confusion(matrix: np.ndarray, class_names: Sequence[str]) -> Figure:
    """Confusion matrix: counts as text, rows (true classes) normalised for the colour."""
    size = len(class_names)
    side = min(max(4.0, 0.55 * size + 2), LARGEST_SIDE)
    figure = Figure(figsize=(side, side * 0.92), layout="constrained")
    axes = figure.add_subplot()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if size <= 25:
        for i, j in zip(*np.nonzero(matrix), strict=True):
            axes.text(
                j,
                i,
                str(matrix[i, j]),
                ha="center",
                va="center",
                fontsize=8,
                color="white" if shares[i, j] > 0.55 else "black",
            )
    for axis in (axes.xaxis, axes.yaxis):
        name_ticks(axis, class_names, side - 2)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(
        f"{np.trace(matrix)} of {matrix.sum()} right ({np.trace(matrix) / max(matrix.sum(), 1):.2%})", fontsize=10
    )
    return figure


def name_ticks(axis: Axis, names: Sequence[str], room: float) -> None:
    """Names at 0, 1, 2, ... of an axis that is `room` inches long; every k-th where all would overlap."""
    pitch = 72 * room / max(len(names), 1)
    every = max(1, -int(-1.2 * SMALLEST_LABEL // pitch))
    places = range(0, len(names), every)
    labels = [shown(names[i]) for i in places]
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    style = turned if axis.axis_name == "x" and max(map(width, labels), default=0) > 3 else {}
    size = min(LARGEST_LABEL, max(SMALLEST_LABEL, pitch * every / 1.2))
    axis.set_ticks(places, labels, parse_math=False, fontsize=size, **style)


def mistakes(
    images: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    confidence: np.ndarray,
    class_names: Sequence[str],
    columns: int = 6,
) -> Figure:
    """Images [n, h, w, c] in [0, 1] with the true class, the predicted one and its probability."""
    columns = min(columns, max(2, len(images)))  # two at least: the heading needs the room
    lines = max(1, -(-len(images) // columns))
    height = 1.85 * lines + 0.3
    # Places by hand: a layout engine takes as long as the drawing.
    figure = Figure(figsize=(1.5 * columns, height))
    figure.subplots_adjust(0.01, 0.05 / height, 0.99, 1 - 0.7 / height, wspace=0.05, hspace=0.3)
    figure.suptitle("most confident mistakes: true → predicted" if len(images) else "no mistakes", fontsize=10)
    for i, image in enumerate(images):
        axes = figure.add_subplot(lines, columns, i + 1)
        axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1)
        axes.set_axis_off()
        names = " → ".join(shown(class_names[k], 11) for k in (labels[i], predicted[i]))
        axes.set_title(f"{names}\n{confidence[i]:.1%}", fontsize=7, parse_math=False)
    return figure


def calibration(confidence: np.ndarray, correct: np.ndarray, count: np.ndarray) -> Figure:
    """Reliability diagram from sums per bin of confidence, and how many predictions fall in each bin."""
    bins = len(count)
    used = count > 0
    edges = np.arange(bins) / bins
    accuracy, mean = (np.divide(x, count, out=np.zeros(bins), where=used) for x in (correct, confidence))
    ece = np.abs(correct - confidence).sum() / max(count.sum(), 1)
    figure = Figure(figsize=(4.2, 5.0), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    top.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="calibrated")
    top.bar(edges, accuracy, width=1 / bins, align="edge", color=BLUE, alpha=0.35, edgecolor="white", label="accuracy")
    top.plot(mean[used], accuracy[used], color=BLUE, marker="o", markersize=4, linewidth=1.2, label="bin means")
    top.set_ylabel("accuracy")
    top.set_ylim(0, 1.02)
    top.set_title(f"expected calibration error {ece:.2%}", fontsize=10)
    top.legend(frameon=False, fontsize=8, loc="upper left")
    bottom.bar(edges, count, width=1 / bins, align="edge", color=GREY, edgecolor="white")
    bottom.set_yscale("log")
    bottom.set_xlabel("confidence of the prediction")
    bottom.set_ylabel("examples")
    bottom.set_xlim(0, 1)
    return figure


def image_grid(images: np.ndarray, columns: int = 8, gap: int = 2) -> np.ndarray:
    """Images [n, h, w, c], float in [0, 1] or uint8, side by side: uint8 [H, W, c] with light gaps.

    Raises `ValueError` for anything else, no images included.
    """
    if images.ndim != 4 or not len(images) or columns < 1:
        raise ValueError(f"image_grid: expected images [n, h, w, c] and columns ≥ 1, got {images.shape}, {columns}")
    if images.dtype != np.uint8:
        images = np.round(np.clip(images, 0, 1) * 255).astype(np.uint8)
    count, height, width, channels = images.shape
    columns = min(columns, count)
    lines = -(-count // columns)
    grid = np.full((lines * (height + gap) + gap, columns * (width + gap) + gap, channels), 230, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        grid[top : top + height, left : left + width] = image
    return grid


def save_png(image: np.ndarray, path: Path, scale: int = 4) -> None:
    """Write a uint8 image [h, w, c], each pixel as `scale`² ones, atomically; equal images give equal bytes.

    Large images are enlarged less: up to `LARGEST_IMAGE` pixels on a side.
    """
    from PIL import Image

    scale = max(1, min(scale, LARGEST_IMAGE // max(image.shape[:2])))
    large = image.repeat(scale, 0).repeat(scale, 1)
    buffer = io.BytesIO()
    Image.fromarray(large.squeeze(-1) if large.shape[-1] == 1 else large).save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


def save(figure: Figure, path: Path, dpi: int = 150) -> None:
    """Write a figure as PNG, atomically and without a date; a character that the font lacks is a box.

    A title that would be wider than the figure is broken into lines.
    """
    for text in (*figure.texts, *(axes.title for axes in figure.axes)):
        # Measuring lines reads "$" as mathematics, also where names are drawn as they are.
        text.set_wrap(text.get_parse_math())
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file, and its folder, so that a kill leaves the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.replace(temporary, path)
