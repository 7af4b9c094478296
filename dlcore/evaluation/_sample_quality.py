"""How good samples are, measured on features of a classifier trained on the same data (lecture 27.2).

Feature distances depend on the classifier, on the layer and on the number of images: they compare only with other
numbers made by the same recipe, and with the floor, real images against other real images. None of them is the
"FID", which uses one particular network. Everything is computed by NumPy in float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Quality(NamedTuple):
    """Distances of samples, and of as many real training images (the floor), to the same real test images."""

    frechet: float
    frechet_floor: float
    kid: float
    kid_stderr: float
    kid_floor: float
    precision: float
    recall: float


def moments(features: Float[np.ndarray, "n d"]) -> tuple[Float[np.ndarray, " d"], Float[np.ndarray, "d d"]]:
    """Mean and unbiased covariance. Raises `ValueError` for fewer than two rows, or numbers that are not finite."""
    (features,) = _checked("moments", features=features)
    if len(features) < 2:
        raise ValueError(f"moments: {len(features)} features; at least 2 are needed")
    return features.mean(0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance(
    mean: Float[np.ndarray, " d"],
    covariance: Float[np.ndarray, "d d"],
    other_mean: Float[np.ndarray, " d"],
    other_covariance: Float[np.ndarray, "d d"],
) -> float:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁^½ Σ₂ Σ₁^½)^½), the squared 2-Wasserstein distance of two normal distributions.

    Dowson & Landau 1982; covariances may be singular. Raises `ValueError` for shapes that do not fit.
    """
    mean, covariance, other_mean, other_covariance = (
        np.asarray(x, np.float64) for x in (mean, covariance, other_mean, other_covariance)
    )
    for name, found, shape in (
        ("other_mean", other_mean, mean.shape),
        ("covariance", covariance, 2 * mean.shape),
        ("other_covariance", other_covariance, 2 * mean.shape),
    ):
        if found.shape != shape:
            raise ValueError(
                f"frechet_distance: {name} has shape {found.shape}; for mean {mean.shape} it must be {shape}"
            )
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other_covariance @ root), 0)).sum()
    return float(np.sum((mean - other_mean) ** 2) + np.trace(covariance) + np.trace(other_covariance) - 2 * cross)


def kernel_distance(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> float:
    """Unbiased squared maximum mean discrepancy with k(a, b) = (a·b/d + 1)³ (Bińkowski et al. 2018, eq. 3).

    Its expectation is 0 for equal distributions; single values may be negative. Raises `ValueError` for features of
    different sizes, fewer than two of either, or numbers that are not finite.
    """
    x, y = _checked("kernel_distance", x=x, y=y)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"kernel_distance: features of shapes {x.shape} and {y.shape}; at least 2 of each are needed")
    d = x.shape[1]
    xx, yy, xy = ((a @ b.T / d + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def kid(
    x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"], *, subsets: int = 20, size: int = 256, seed: int = 0
) -> tuple[float, float]:
    """Mean of `kernel_distance` over random subsets, and the standard error of that mean.

    Raises `ValueError` for fewer than two subsets or rows, and as `kernel_distance`.
    """
    x, y = _checked("kid", x=x, y=y)
    if subsets < 2 or min(size, len(x), len(y)) < 2:
        raise ValueError(f"kid: {subsets} subsets of {min(size, len(x), len(y))} features; at least 2 of 2 are needed")
    rng, size = np.random.default_rng(seed), min(size, len(x), len(y))
    pick = lambda z: z[rng.choice(len(z), size, replace=False)]  # noqa: E731
    values = np.array([kernel_distance(pick(x), pick(y)) for _ in range(subsets)])
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(subsets))


def covered(points: Float[np.ndarray, "n d"], manifold: Float[np.ndarray, "m d"], neighbours: int = 3) -> float:
    """Share of points within some manifold point's distance to its k-th neighbour (Kynkäänniemi et al. 2019, eq. 2).

    Precision is `covered(samples, real)`, recall `covered(real, samples)`. Raises `ValueError` for k ≥ m, features of
    different sizes, or numbers that are not finite.
    """
    points, manifold = _checked("covered", points=points, manifold=manifold)
    if not 1 <= neighbours < len(manifold):
        raise ValueError(f"covered: neighbours={neighbours}, but the manifold has {len(manifold)} points")
    radius = np.partition(_distances(manifold, manifold), neighbours, axis=1)[:, neighbours]
    return float((_distances(points, manifold) <= radius).any(1).mean())


def _checked(name: str, **features: np.ndarray) -> list[Float[np.ndarray, "_ d"]]:
    """The features in float64. Raises `ValueError` unless all are finite features [n, d] of one size d."""
    features = {argument: np.asarray(found, np.float64) for argument, found in features.items()}
    size = next(iter(features.values())).shape[-1:]
    for argument, found in features.items():
        if found.ndim != 2 or found.shape[1:] != size:
            raise ValueError(f"{name}: {argument} has shape {found.shape}; it must be [n, d] with d = {size}")
        if not np.isfinite(found).all():
            raise ValueError(
                f"{name}: {argument} must be finite, got {(~np.isfinite(found)).sum()} numbers that are not"
            )
    return list(features.values())


def _distances(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    return np.sqrt(np.maximum(squared, 0))


def quality(
    samples: Float[np.ndarray, "n d"], test: Float[np.ndarray, "n d"], train: Float[np.ndarray, "n d"]
) -> Quality:
    """All measures of sample features against test features, and of training features as the floor.

    Raises `ValueError` for features of different sizes, or numbers that are not finite.
    """
    samples, test, train = _checked("quality", samples=samples, test=test, train=train)
    reference = moments(test)
    value, error = kid(samples, test)
    return Quality(
        frechet=frechet_distance(*moments(samples), *reference),
        frechet_floor=frechet_distance(*moments(train), *reference),
        kid=value,
        kid_stderr=error,
        kid_floor=kid(train, test)[0],
        precision=covered(samples, test),
        recall=covered(test, samples),
    )


def covered_classes(predicted: np.ndarray, labels: np.ndarray, classes: int, fraction: float = 0.25) -> int:
    """How many classes get at least `fraction` of their proportion of real images among the classes of samples.

    Raises `ValueError` for classes outside 0 … classes − 1.
    """
    for name, numbers in (("predicted", predicted), ("labels", labels)):
        if not len(numbers) or not 0 <= np.min(numbers) <= np.max(numbers) < classes:
            raise ValueError(f"covered_classes: {name} must be classes 0 … {classes - 1}, got {np.unique(numbers)}")
    found = np.bincount(predicted, minlength=classes) / len(predicted)
    real = np.bincount(labels, minlength=classes) / len(labels)
    return int((found >= fraction * real)[real > 0].sum())
