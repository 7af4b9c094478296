"""Is a generator collapsing, a discriminator winning or learning by heart? (lecture 27.2)

Everything is measured on samples: how they spread over classes or known modes, how alike they are, how far they are
from real data by a kernel, and what the discriminator says of training, held-out and generated examples.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dlcore.types import Key

SHARE = 0.25
"""A class or mode counts as covered from this part of its fair share on."""
GAP = 0.25
"""Difference of D between training and held-out examples from which it learns by heart."""
WIN = 0.9
"""Difference of D between training examples and fakes from which the generator hardly learns."""
ALIKE = 0.5
"""Nearest samples closer than this part of the distance of nearest real examples are too much alike."""


class Report(NamedTuple):
    """What the samples and the discriminator show. Scores are probabilities of being real, or None."""

    histogram: Int[np.ndarray, " k"]
    """Samples per class or mode."""
    expected: Float[np.ndarray, " k"]
    """Shares of the real data, which sum to 1."""
    diversity: float
    """Mean distance of a sample to the nearest other one, over that of as many real examples."""
    d_real: float | None = None
    d_fake: float | None = None
    d_heldout: float | None = None

    def covered(self) -> int:
        """How many classes have at least a quarter of their fair share."""
        return covered(self.histogram, self.expected)

    def problems(self) -> tuple[str, ...]:
        """What is wrong, one line each; empty for a healthy model."""
        wanted, found = int((self.expected > 0).sum()), self.covered()
        lines = []
        if found < wanted:
            lines.append(f"collapse: {found} of {wanted} classes have a quarter of their share")
        if self.diversity < ALIKE:
            lines.append(f"collapse: samples are {self.diversity:.2f} times as far apart as real examples")
        if None not in (self.d_real, self.d_fake) and self.d_real - self.d_fake > WIN:
            lines.append(f"the discriminator wins: D(real) {self.d_real:.2f}, D(fake) {self.d_fake:.2f}")
        if None not in (self.d_real, self.d_heldout) and self.d_real - self.d_heldout > GAP:
            lines.append(f"the discriminator learns by heart: {self.d_real:.2f}, held out {self.d_heldout:.2f}")
        return tuple(lines)


def covered(histogram: Int[np.ndarray, " k"], expected: Float[np.ndarray, " k"], share: float = SHARE) -> int:
    """How many of the classes that exist hold at least `share` of the part of the samples that is expected of them."""
    shares = np.asarray(histogram) / max(np.sum(histogram), 1)
    return int(((shares >= share * np.asarray(expected)) & (np.asarray(expected) > 0)).sum())


def class_histogram(
    classify: Callable[[np.ndarray], np.ndarray], samples: Float[np.ndarray, "n ..."], classes: int
) -> Int[np.ndarray, " k"]:
    """Samples per class by `classify`, samples [n, ...] to class numbers [n]."""
    return np.bincount(np.asarray(classify(samples)), minlength=classes)


def diversity(samples: Float[np.ndarray, "n ..."], real: Float[np.ndarray, "m ..."]) -> float:
    """Mean distance to the nearest other sample, over that of equally many real examples; about 1 for good samples.

    Raises `ValueError` for fewer than two of either.
    """
    count = min(len(samples), len(real))
    if count < 2:
        raise ValueError(f"diversity: {len(samples)} samples and {len(real)} real examples; at least 2 are needed")
    return nearest_distance(samples[:count]) / max(nearest_distance(real[:count]), 1e-12)


def nearest_distance(x: Float[np.ndarray, "n ..."]) -> float:
    """Mean Euclidean distance of an example to the nearest other one."""
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    squares = (x**2).sum(1)
    distances = squares[:, None] + squares - 2 * x @ x.T
    np.fill_diagonal(distances, np.inf)
    return float(np.sqrt(np.maximum(distances.min(1), 0)).mean())


def nearest_neighbour(samples: Float[np.ndarray, "n ..."], real: Float[np.ndarray, "m ..."]) -> Int[np.ndarray, " n"]:
    """The number of the real example next to each sample: its label makes a classifier, its image shows copies."""
    a, b = (np.asarray(x, np.float32).reshape(len(x), -1) for x in (samples, real))
    return ((b**2).sum(1) - 2 * a @ b.T).argmin(1)


def mode_hits(points: Float[Array, "n d"], modes: Float[Array, "k d"], radius: float) -> Float[Array, "n k"]:
    """1 at a point's nearest mode if it lies within `radius` of it, else 0."""
    distance = jnp.linalg.norm(points[:, None] - modes, axis=-1)
    nearest = jax.nn.one_hot(distance.argmin(-1), len(modes))
    return nearest * (distance <= radius)


def frequencies(key: Key, dims: int, scale: float, count: int = 512) -> Float[Array, "d m"]:
    """Random frequencies of a mixture of Gaussian kernels exp(−‖a − b‖²/(2h²)), h = scale · (½, 1, 2) in turn."""
    widths = scale * jnp.array([0.5, 1.0, 2.0])[jnp.arange(count) % 3]
    return jax.random.normal(key, (dims, count)) / widths


def fourier_features(x: Float[Array, "n ..."], frequencies: Float[Array, "d m"]) -> Float[Array, "n two_m"]:
    """φ(x) with φ(a)·φ(b) ≈ k(a, b) and ‖φ‖ = 1 (Rahimi & Recht 2007)."""
    angles = x.reshape(x.shape[0], -1) @ frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1) / math.sqrt(frequencies.shape[1])


def squared_mmd(real: Float[np.ndarray, " m"], fake: Float[np.ndarray, " m"], count: float) -> float:
    """‖E φ(x) − E φ(x̃)‖², the squared maximum mean discrepancy, without bias, from sums of `count` features of each.

    It may be slightly negative (Gretton et al. 2012, eq. 3). Raises `ValueError` for fewer than two examples.
    """
    if count < 2:
        raise ValueError(f"squared_mmd: {count} examples; at least 2 are needed")
    a, b = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    within = (a @ a + b @ b - 2 * count) / (count * (count - 1))
    return float(within - 2 * (a @ b) / count**2)
