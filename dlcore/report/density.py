"""Densities in the plane, and samples beside data."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from dlcore.report.figures import BLUE
from dlcore.report.panel import Panel, panel
from dlcore.report.text import shown


def grid(low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray, size: int) -> np.ndarray:
    """The centres [size², 2] of size × size equal cells of a rectangle, row by row from the lowest y."""
    x, y = (a + (np.arange(size) + 0.5) * (b - a) / size for a, b in zip(low, high, strict=True))
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def square(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lower left and the upper right corner of a square around points [n, 2]."""
    centre, half = (data.max(0) + data.min(0)) / 2, 0.55 * float(np.ptp(data, axis=0).max())
    return centre - half, centre + half


def density_and_samples(
    low: np.ndarray,
    high: np.ndarray,
    density: np.ndarray,
    data: np.ndarray,
    samples: np.ndarray,
    *,
    most: int = 3000,
    title: str = "",
) -> Figure:
    """Three panels over the same square: points of the data, the density p(x) of a model, and points drawn from it.

    `density` [size, size] is p at the points of `grid(low, high, size)`. Its mass on the square is written above.
    """
    extent = (low[0], high[0], low[1], high[1])
    mass = density.sum() * (high[0] - low[0]) * (high[1] - low[1]) / density.size
    figure = Figure(figsize=(10.2, 3.9), layout="constrained")
    left, middle, right = figure.subplots(1, 3, sharex=True, sharey=True)
    # The brightest thousandth of cells would hide the rest.
    middle.imshow(density, origin="lower", extent=extent, cmap="magma", vmax=np.quantile(density, 0.999))
    for axes, points, name in ((left, data, "data"), (right, samples, "samples of the model")):
        axes.plot(*points[:most].T, ".", color=BLUE, markersize=1.5, alpha=0.5)
        axes.set_title(name, fontsize=10)
    middle.set_title(f"density; {mass:.1%} of it in the square", fontsize=10)
    for axes in (left, middle, right):
        axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xlabel="x₁")
    left.set_ylabel("x₂")
    figure.suptitle(shown(title, 100), fontsize=10, parse_math=False)
    return figure


def in_the_plane(
    log_density: Callable[[np.ndarray], np.ndarray], data: np.ndarray, samples: np.ndarray, title: str, size: int = 200
) -> Panel:
    """`density_and_samples` of a model, whose log p(x) `log_density` gives at points float32 [n, 2]."""
    low, high = square(data)
    values = np.exp(np.asarray(log_density(grid(low, high, size).astype(np.float32)))).reshape(size, size)
    return panel("density.density_and_samples", low, high, values, data, samples, title=title)


def regions(
    low: np.ndarray,
    high: np.ndarray,
    probabilities: np.ndarray,
    points: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    *,
    most: int = 1000,
) -> Figure:
    """Where each class is the most probable, in its colour and the deeper the surer, with points [n, 2] over it.

    `probabilities` [size, size, classes] are those at the points of `grid(low, high, size)`. Black lines are the
    boundaries between the classes; the title counts the given points that lie in the region of their class.
    """
    size, classes = probabilities.shape[1:]
    extent, best = (low[0], high[0], low[1], high[1]), probabilities.argmax(-1)
    palette = colormaps["tab10" if classes <= 10 else "tab20"](np.arange(classes) % 20)[:, :3]
    sure = (probabilities.max(-1, keepdims=True) - 1 / classes) / (1 - 1 / classes)
    figure = Figure(figsize=(6.2, 5.0), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(1 - (0.1 + 0.45 * sure) * (1 - palette[best]), origin="lower", extent=extent)
    x, y = (a + (np.arange(size) + 0.5) * (b - a) / size for a, b in zip(low, high, strict=True))
    for k in range(classes):
        rest = np.delete(probabilities, k, -1).max(-1)
        if (best == k).any() and (best != k).any():
            axes.contour(x, y, probabilities[..., k] - rest, [0], colors="black", linewidths=0.8)
    for k, name in enumerate(names):
        own = points[:most][labels[:most] == k]
        axes.scatter(*own.T, s=9, color=palette[k], edgecolors="white", linewidths=0.3, label=shown(name, 16))
    cell = np.clip(((points - low) / (high - low) * size).astype(int), 0, size - 1)
    right = best[cell[:, 1], cell[:, 0]] == labels
    axes.set_title(
        f"regions of the classes; {right.mean():.1%} of {len(points):,} test points in their own", fontsize=10
    )
    axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xlabel="x₁", ylabel="x₂")
    axes.legend(title="class", frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    return figure


def cloud(points: np.ndarray, title: str = "") -> Figure:
    """Points [n, 2] in the plane, or how points [n, 1] are spread. Raises `ValueError` for more dimensions."""
    if points.ndim != 2 or points.shape[1] > 2:
        raise ValueError(f"cloud: points {points.shape} are not [n, 1] or [n, 2]; keep more dimensions as an array")
    figure = Figure(figsize=(5.2, 5.0), layout="constrained")
    axes = figure.add_subplot()
    if points.shape[1] == 2:
        axes.plot(*points.T, ".", color=BLUE, markersize=3, alpha=0.6)
        axes.set(aspect="equal", xlabel="x₁", ylabel="x₂")
    else:
        axes.hist(points[:, 0], bins=40, color=BLUE)
        axes.set(xlabel="x", ylabel="samples")
    axes.set_title(shown(title, 60), fontsize=10, parse_math=False)
    return figure
