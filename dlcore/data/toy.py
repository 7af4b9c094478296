"""Synthetic densities in the plane, for models whose density can be drawn."""

import numpy as np

from dlcore.data._checks import DataError
from dlcore.data._source import Data, DataSpec, Rows, in_memory

SETS = ("two_moons", "rings", "pinwheel", "eight_gaussians", "checkerboard", "spirals")
SIZES = (10_000, 2_000, 2_000)
RECIPE = 1
"""Number of this way to draw, raised whenever it changes; a digest of the points would differ between machines."""


def load(name: str, *, validation: int | None = None) -> Data:
    """10,000/2,000/2,000 points float32 [n, 2] with the number of their component as label; always the same ones.

    `validation` overrides the size of that split. Raises `DataError` for a negative one.
    """
    if validation is not None and validation < 0:
        raise DataError(f"{name}: validation={validation}; use 0 or more")
    sizes = (SIZES[0], SIZES[1] if validation is None else validation, SIZES[2])
    train, held, test = (draw(name, size, np.random.default_rng([i, SETS.index(name)])) for i, size in enumerate(sizes))
    points, classes = train["point"].astype(np.float64), int(train["label"].max()) + 1
    mean, std = tuple(points.mean(0).tolist()), tuple(points.std(0).tolist())
    marks = {name: {"recipe": RECIPE}}
    spec = DataSpec(name, (2,), None, classes, tuple(map(str, range(classes))), sizes, mean, std, fingerprint=marks)
    return Data(spec, in_memory(train), in_memory(held), in_memory(test))


def draw(name: str, size: int, rng: np.random.Generator) -> Rows:
    """`size` points of the density `name`, all within about [−4, 4]²."""
    function = {
        "two_moons": _two_moons,
        "rings": _rings,
        "pinwheel": _pinwheel,
        "eight_gaussians": _eight_gaussians,
        "checkerboard": _checkerboard,
        "spirals": _spirals,
    }[name]
    points, labels = function(size, rng)
    return {"point": points.astype(np.float32), "label": labels.astype(np.int32)}


def _two_moons(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    label, angle = rng.integers(2, size=size), np.pi * rng.random(size)
    x = np.where(label, 1 - np.cos(angle), np.cos(angle)) - 0.5
    y = np.where(label, 0.5 - np.sin(angle), np.sin(angle)) - 0.25
    return 2 * np.stack([x, y], -1) + 0.15 * rng.standard_normal((size, 2)), label


def _rings(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    label, angle = rng.integers(3, size=size), 2 * np.pi * rng.random(size)
    radius = label + 1 + 0.1 * rng.standard_normal(size)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1), label


def _pinwheel(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    label = rng.integers(5, size=size)
    along, across = 2 + 0.6 * rng.standard_normal(size), 0.2 * rng.standard_normal(size)
    angle = 2 * np.pi * label / 5 + 0.4 * along
    return np.stack(
        [along * np.cos(angle) - across * np.sin(angle), along * np.sin(angle) + across * np.cos(angle)], -1
    ), label


def _eight_gaussians(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    label = rng.integers(8, size=size)
    angle = 2 * np.pi * label / 8
    return 2.8 * np.stack([np.cos(angle), np.sin(angle)], -1) + 0.2 * rng.standard_normal((size, 2)), label


def _checkerboard(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    label = rng.integers(8, size=size)
    column, pair = label % 4, label // 4
    corner = np.stack([2.0 * column - 4, 4.0 * pair + 2 * (column % 2) - 4], -1)
    return corner + 2 * rng.random((size, 2)), label


def _spirals(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    label, turn = rng.integers(2, size=size), np.sqrt(rng.random(size))
    angle = 3 * np.pi * turn + np.pi * label
    return 3.5 * turn[:, None] * np.stack([np.cos(angle), np.sin(angle)], -1) + 0.1 * rng.standard_normal(
        (size, 2)
    ), label
