"""Is a generator collapsing, a discriminator winning or learning by heart? (lecture 27.2)

Everything is measured on samples: how they spread over classes or known modes, how alike they are, how many repeat
another sample or a training example, how far they are from real data by a kernel, and what the discriminator says of
training, held-out and generated examples. Held-out real examples are the baseline of every distance.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dlcore.operands import equal_shapes, has_shape
from dlcore.precision import matmul
from dlcore.types import Key

FRACTION = 0.25
"""A class or mode counts as covered from this part of its fair share on."""
GAP = 0.25
"""Difference of D between training and held-out examples from which it learns by heart."""
WIN = 0.9
"""Difference of D between training examples and fakes from which the generator hardly learns."""
ALIKE = 0.5
"""Nearest samples closer than this part of the distance of nearest real examples are too much alike."""


NEXT = 0.2
"""Two examples are next to each other below this part of the median distance between nearest held-out neighbours."""
REPEATED = 0.05
"""Share of examples next to another, beyond that of real ones and chance, from which a generator repeats."""

CHANCE = 0.05
"""Probability of finding too little of some class in as many samples of the real data, below which it is a finding."""


class Near(NamedTuple):
    """How many examples lie next to another one: a repetition."""

    samples: float
    """Share of the samples."""
    heldout: float
    """Share of held-out real examples, the baseline: data may repeat themselves."""
    count: int
    """How many of either were looked at."""

    def repeats(self) -> bool:
        """Whether the samples exceed the baseline by `REPEATED` and three standard errors of the difference."""
        mean = (self.samples + self.heldout) / 2
        error = math.sqrt(2 * mean * (1 - mean) / self.count)
        return self.samples - self.heldout > REPEATED + 3 * error


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
    duplicates: Near | None = None
    """Samples next to another sample, see `duplicates`."""
    copies: Near | None = None
    """Samples next to a training example, see `copies`."""
    not_finite: int = 0
    """Samples with entries that are infinite or NaN; the rest is about the others."""

    def covered(self) -> int:
        """How many classes have at least a quarter of their fair share."""
        return covered(self.histogram, self.expected)

    def _short_beyond_chance(self) -> bool:
        """Whether some class is so rare that as many samples of the real data have it with probability 5 % or less."""
        count, classes = int(np.sum(self.histogram)), int((self.expected > 0).sum())
        real = zip(self.histogram, self.expected, strict=True)
        short = [(n, p) for n, p in real if p > 0 and n < FRACTION * p * count]
        return count == 0 or any(binomial_cdf(int(n), count, float(p)) <= CHANCE / classes for n, p in short)

    def problems(self) -> tuple[str, ...]:
        """What is wrong, one line each; empty for a healthy model."""
        wanted, found = int((self.expected > 0).sum()), self.covered()
        lines = [f"diverged: {self.not_finite} samples are not finite"] if self.not_finite else []
        if found < wanted and self._short_beyond_chance():
            lines.append(f"collapse: {found} of {wanted} classes have a quarter of their share")
        if self.diversity < ALIKE:
            lines.append(f"collapse: samples are {self.diversity:.2f} times as far apart as real examples")
        for near, kind, other in (
            (self.duplicates, "collapse", "another sample"),
            (self.copies, "copies", "a training example"),
        ):
            if near is not None and near.repeats():
                lines.append(
                    f"{kind}: {near.samples:.0%} of the samples repeat {other} (real ones: {near.heldout:.0%})"
                )
        if None not in (self.d_real, self.d_fake) and self.d_real - self.d_fake > WIN:
            lines.append(f"the discriminator wins: D(real) {self.d_real:.2f}, D(fake) {self.d_fake:.2f}")
        if None not in (self.d_real, self.d_heldout) and self.d_real - self.d_heldout > GAP:
            lines.append(f"the discriminator learns by heart: {self.d_real:.2f}, held out {self.d_heldout:.2f}")
        return tuple(lines)


def examine(
    samples: Float[np.ndarray, "n ..."],
    known: Float[np.ndarray, "m ..."],
    labels: Int[np.ndarray, " m"],
    heldout: Float[np.ndarray, "k ..."],
    classes: int,
    **scores: float,
) -> Report:
    """The report of samples beside `known` training examples, whose nearest gives a sample its class, and others.

    `scores` are `d_real`, `d_fake` and `d_heldout`, of a discriminator that gives probabilities. Samples that are not
    finite are counted, and left out of the rest. Raises `ValueError` for fewer than two samples or of the others, and
    unless `labels` are one of 0 … classes − 1 per known example.
    """
    has_shape("examine", "labels", labels, known.shape[:1], f"one for each of known {known.shape}")
    if len(samples) < 2:
        raise ValueError(f"examine: {len(samples)} samples; at least 2 are needed")
    finite = np.isfinite(samples).reshape(len(samples), -1).all(1)
    broken, samples = int((~finite).sum()), samples[finite]
    expected = np.bincount(labels, minlength=classes) / len(known)
    if len(samples) < 2:
        return Report(np.zeros(classes, int), expected, math.nan, not_finite=broken, **scores)
    by_neighbour = lambda x: labels[nearest_neighbour(x, known)]  # noqa: E731
    return Report(
        class_histogram(by_neighbour, samples, classes),
        expected,
        diversity(samples, known),
        duplicates=duplicates(samples, heldout),
        copies=copies(samples, known, heldout),
        not_finite=broken,
        **scores,
    )


def covered(histogram: Int[np.ndarray, " k"], expected: Float[np.ndarray, " k"], fraction: float = FRACTION) -> int:
    """How many of the classes that exist hold at least `fraction` of the part of the samples that is expected of them.

    Raises `ValueError` for counts and shares of different classes.
    """
    equal_shapes("covered", histogram=histogram, expected=expected)
    shares = np.asarray(histogram) / max(np.sum(histogram), 1)
    return int(((shares >= fraction * np.asarray(expected)) & (np.asarray(expected) > 0)).sum())


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X ≤ k) of the number X of n draws that have probability p each."""
    if p >= 1:
        return float(k >= n)
    log_terms = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(min(k, n) + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, log_terms)))


def class_histogram(
    classify: Callable[[np.ndarray], np.ndarray], samples: Float[np.ndarray, "n ..."], classes: int
) -> Int[np.ndarray, " k"]:
    """Samples per class by `classify`, samples [n, ...] to class numbers [n].

    Raises `ValueError` unless `classify` gives one class of 0 … classes − 1 per sample.
    """
    found = np.asarray(classify(samples))
    has_shape("class_histogram", "classes", found, (len(samples),), "one number per sample")
    if found.size and not 0 <= found.min() <= found.max() < classes:
        raise ValueError(f"class_histogram: classes must lie in 0 … {classes - 1}, got {found.min()} … {found.max()}")
    return np.bincount(found, minlength=classes)


def diversity(samples: Float[np.ndarray, "n ..."], real: Float[np.ndarray, "m ..."]) -> float:
    """Mean distance to the nearest other sample, over that of equally many real examples; about 1 for good samples.

    Raises `ValueError` for fewer than two of either.
    """
    count = _count("diversity", samples, real)
    return nearest_distance(samples[:count]) / max(nearest_distance(real[:count]), 1e-12)


def _count(name: str, samples: np.ndarray, real: np.ndarray) -> int:
    """How many of both are compared: as many, since nearest distances shrink with numbers."""
    equal_shapes(name, samples=samples[:1], real=real[:1])
    if min(len(samples), len(real)) < 2:
        raise ValueError(f"{name}: {len(samples)} samples and {len(real)} real examples; at least 2 are needed")
    return min(len(samples), len(real))


def duplicates(samples: Float[np.ndarray, "n ..."], heldout: Float[np.ndarray, "m ..."]) -> Near:
    """Shares of samples, and of equally many held-out examples, next to another one of their own kind.

    Raises `ValueError` for fewer than two of either, or examples of different shapes.
    """
    count = _count("duplicates", samples, heldout)
    own, real = nearest(samples[:count])[1], nearest(heldout[:count])[1]
    limit = _limit(heldout, real)
    return Near(float((own <= limit).mean()), float((real <= limit).mean()), count)


def copies(
    samples: Float[np.ndarray, "n ..."], train: Float[np.ndarray, "k ..."], heldout: Float[np.ndarray, "m ..."]
) -> Near:
    """Shares of samples, and of equally many held-out examples, next to a training example.

    Raises `ValueError` for fewer than two of either, or examples of different shapes.
    """
    count = _count("copies", samples, heldout)
    equal_shapes("copies", samples=samples[:1], train=train[:1])
    own, real = nearest(samples[:count], train)[1], nearest(heldout[:count], train)[1]
    limit = _limit(heldout, real)
    return Near(float((own <= limit).mean()), float((real <= limit).mean()), count)


def _limit(real: np.ndarray, distances: Float[np.ndarray, " n"]) -> float:
    """The distance up to which two examples are next to each other; never below that of rounding to float32."""
    size = math.sqrt(float(np.square(np.asarray(real, np.float64)).sum() / len(real)))
    return max(NEXT * float(np.median(distances)), 1e-6 * size)


def nearest_distance(x: Float[np.ndarray, "n ..."]) -> float:
    """Mean Euclidean distance of an example to the nearest other one."""
    return float(nearest(x)[1].mean())


def nearest_neighbour(samples: Float[np.ndarray, "n ..."], real: Float[np.ndarray, "m ..."]) -> Int[np.ndarray, " n"]:
    """The number of the real example next to each sample: its label makes a classifier, its image shows copies."""
    return nearest(samples, real)[0]


def nearest(
    x: Float[np.ndarray, "n ..."], others: Float[np.ndarray, "m ..."] | None = None, *, block: int = 256
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Number and Euclidean distance of the nearest of `others` to every x, or of the nearest other x, in float64.

    Memory is that of `block` · m numbers. Raises `ValueError` for examples of different shapes.
    """
    equal_shapes("nearest", x=x[:1], others=(x if others is None else others)[:1])
    a, b = (np.asarray(v, np.float64).reshape(len(v), -1) for v in (x, x if others is None else others))
    squares, numbers, distances = (b**2).sum(1), [], []
    for start in range(0, len(a), block):
        part = a[start : start + block]
        found = (part**2).sum(1)[:, None] + squares - 2 * part @ b.T
        if others is None:
            found[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        numbers.append(found.argmin(1))
        distances.append(np.sqrt(np.maximum(found.min(1), 0)))
    return np.concatenate(numbers), np.concatenate(distances)


def mode_hits(points: Float[Array, "n d"], modes: Float[Array, "k d"], radius: float) -> Float[Array, "n k"]:
    """1 at a point's nearest mode if it lies within `radius` of it, else 0. Raises `ValueError` for other sizes."""
    equal_shapes("mode_hits", points=points[:1], modes=modes[:1])
    distance = jnp.linalg.norm(points[:, None] - modes, axis=-1)
    nearest = jax.nn.one_hot(distance.argmin(-1), len(modes))
    return nearest * (distance <= radius)


def frequencies(key: Key, dims: int, scale: float, count: int = 512) -> Float[Array, "d m"]:
    """Random frequencies of a mixture of Gaussian kernels exp(−‖a − b‖²/(2h²)), h = scale · (½, 1, 2) in turn."""
    widths = scale * jnp.array([0.5, 1.0, 2.0])[jnp.arange(count) % 3]
    return jax.random.normal(key, (dims, count)) / widths


def fourier_features(x: Float[Array, "n ..."], frequencies: Float[Array, "d m"]) -> Float[Array, "n two_m"]:
    """φ(x) with φ(a)·φ(b) ≈ k(a, b) and ‖φ‖ = 1 (Rahimi & Recht 2007).

    Raises `ValueError` for frequencies of another dimension.
    """
    shape = (math.prod(x.shape[1:]), frequencies.shape[-1])
    has_shape("fourier_features", "frequencies", frequencies, shape, f"for examples of shape {x.shape[1:]}")
    angles = matmul(x.reshape(x.shape[0], -1), frequencies)
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], -1) / math.sqrt(frequencies.shape[1])


def squared_mmd(real: Float[np.ndarray, " m"], fake: Float[np.ndarray, " m"], count: float) -> float:
    """‖E φ(x) − E φ(x̃)‖², the squared maximum mean discrepancy, without bias, from sums of `count` features of each.

    It may be slightly negative (Gretton et al. 2012, eq. 3). Raises `ValueError` for fewer than two examples, or
    different features.
    """
    equal_shapes("squared_mmd", real=real, fake=fake)
    if count < 2:
        raise ValueError(f"squared_mmd: {count} examples; at least 2 are needed")
    a, b = np.asarray(real, np.float64), np.asarray(fake, np.float64)
    within = (a @ a + b @ b - 2 * count) / (count * (count - 1))
    return float(within - 2 * (a @ b) / count**2)
