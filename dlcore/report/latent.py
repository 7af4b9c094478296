"""Figures of a latent space as panels, made with a decoder: reconstructions, lines, traversals (lecture 24.3).

`images(z)` decodes codes [n, d] into images [n, h, w, c] as a NumPy array.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jax.scipy.stats import norm

from dlcore.report.panel import Panel, panel

Images = Callable[[Any], np.ndarray]


def reconstructions(images: Images, x: np.ndarray, codes: np.ndarray) -> Panel:
    """Images over what their codes decode to."""
    return panel("images.rows", [("image", np.asarray(x)), ("mean of p(x|z)", images(codes))])


def interpolation(images: Images, codes: np.ndarray, lines: int = 5, steps: int = 10) -> Panel:
    """Straight lines between the codes of neighbouring images."""
    along = np.linspace(0, 1, steps)[:, None]
    pairs = [(i, i + 1) for i in range(0, 2 * lines, 2)]
    # No numbers beside them: those of the pairs would be read as digits.
    rows = [("", images((1 - along) * codes[i] + along * codes[j])) for i, j in pairs]
    return panel("images.rows", rows, "each row: between the codes of two test images")


def circle(start: np.ndarray, end: np.ndarray, steps: int = 10) -> np.ndarray:
    """Codes [steps, d] from one to another along a great circle, which keeps the norm of high-dimensional normals.

    >>> circle(np.array([2.0, 0.0]), np.array([0.0, 2.0]), 3).round(2).tolist()
    [[2.0, 0.0], [1.41, 1.41], [0.0, 2.0]]
    """
    along = np.linspace(0, np.pi / 2, steps)[:, None]
    return np.cos(along) * start + np.sin(along) * end


def circles(images: Images, codes: np.ndarray, lines: int = 5, steps: int = 10) -> Panel:
    """Great circles between the codes of neighbouring images."""
    pairs = [(i, i + 1) for i in range(0, 2 * lines, 2)]
    rows = [("", np.asarray(images(circle(codes[i], codes[j], steps)))) for i, j in pairs]
    return panel("images.rows", rows, "each row: between two test images on a great circle of latent space")


def temperatures(sample: Callable[[float, int], np.ndarray], title: str) -> Panel:
    """`sample(temperature, 12)` for several temperatures."""
    return panel("images.rows", [(f"T = {t}", sample(t, 12)) for t in (0.5, 0.7, 0.85, 1.0)], title)


def traversals(images: Images, codes: np.ndarray, most: int = 8) -> Panel:
    """The first image with one latent dimension moved from −3 to 3, for those whose codes vary most over images."""
    spread = codes.std(0)
    rows = []
    for j in np.argsort(-spread)[:most]:
        z = np.repeat(codes[:1], 9, axis=0)
        z[:, j] = np.linspace(-3, 3, 9)
        rows.append((f"z{j}, sd {spread[j]:.2f}", images(z)))
    return panel("images.rows", rows, "one latent dimension from −3 to 3")


def switches(images: Images, codes: np.ndarray, categories: int, most: int = 8) -> Panel:
    """The first image with one categorical variable set to each of its categories, for those that vary most."""
    whole = np.eye(categories)[codes.reshape(len(codes), -1, categories).argmax(-1)]
    spread = whole.std(0).mean(-1)
    rows = []
    for j in np.argsort(-spread)[:most]:
        z = np.repeat(whole[:1], categories, axis=0)
        z[:, j] = np.eye(categories)
        rows.append((f"variable {j}", images(z.reshape(categories, -1))))
    return panel("images.rows", rows, "one variable in each of its categories")


def manifold(images: Images, size: int = 16) -> Panel:
    """Decoded means over the plane, at equal steps of probability under a standard normal prior."""
    ticks = np.asarray(norm.ppf((np.arange(size) + 0.5) / size))
    z = np.stack(np.meshgrid(ticks, -ticks), -1).reshape(-1, 2)
    title = "the decoder over the plane of codes"
    return panel("images.sheet", images(z), size, title, "quantiles of z0", "quantiles of z1")


def gallery(
    images: Images,
    x: np.ndarray,
    codes: np.ndarray,
    sample: Callable[[float, int], np.ndarray],
    *,
    categories: int = 0,
    levels: int = 1,
) -> dict[str, Panel]:
    """All figures that fit: of images x [n, h, w, c] with codes [n, d], and of `sample(temperature, count)`.

    Codes of `categories` are switched, others moved along lines; a plane has its manifold. Where there are several
    `levels`, a single dimension is one of hundreds and not shown.
    """
    some = np.arange(12) % len(x)
    drawn = {
        "reconstructions": reconstructions(images, x[some], codes[some]),
        "samples": panel("images.sheet", sample(1.0, 64), 8, "codes from the prior"),
        "temperatures": temperatures(sample, "codes of the prior at several temperatures"),
    }
    if categories:
        return drawn | {"switches": switches(images, codes, categories)}
    drawn["interpolation"] = interpolation(images, codes[some])
    if levels == 1:
        drawn["traversals"] = traversals(images, codes)
    if codes.shape[1] == 2:
        drawn["manifold"] = manifold(images)
    return drawn
