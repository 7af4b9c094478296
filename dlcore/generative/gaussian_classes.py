"""Gaussian models of classes in closed form: naive Bayes, LDA and QDA (lecture 22).

p(x|y = c) = N(x; μ_c, Σ_c) with a diagonal Σ_c (naive Bayes), one Σ for all classes (linear discriminant analysis),
or a full one for each (quadratic). Scales are free: no absolute constant is added to a variance unless `ridge` asks
for one.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dlcore.generative.check import in_range
from dlcore.generative.classifier import Posterior, bayes, class_log_prior
from dlcore.operands import Discrete, class_labels, has_shape, known, marks, safe, wide
from dlcore.precision import highest, row_products
from dlcore.setting import Number
from dlcore.types import Key


class NaiveBayes(NamedTuple):
    """Independent features: a mean and a variance for every class and feature."""

    log_prior: Float[Array, " c"]
    mean: Float[Array, "c d"]
    variance: Float[Array, "c d"]


class Gaussians(NamedTuple):
    """Full covariances: one per class (QDA), or a single one that all classes share (LDA, k = 1)."""

    log_prior: Float[Array, " c"]
    mean: Float[Array, "c d"]
    covariance: Float[Array, "k d d"]


@highest
def fit_naive_bayes(
    x: Float[Array, "n d"],
    labels: Discrete[Array, " n"],
    classes: int,
    *,
    where: Discrete[Array, " n"] | None = None,
    smoothing: Number = 1e-9,
) -> NaiveBayes:
    """Maximum likelihood: means and variances of every class (over n_c), priors by frequency.

    `smoothing` times the largest variance of a feature over all examples is added to every variance, which no change of
    units notices (scikit-learn's `var_smoothing`). Raises `ValueError` for a class without examples and, by its number,
    for one in which a feature does not vary and nothing is added; inside `jit` those give NaN or infinities.
    """
    in_range("fit_naive_bayes", "smoothing", smoothing, lambda s: s >= 0, "not be negative")
    x, weight, prior, mean = _means("fit_naive_bayes", x, labels, classes, where)
    share = weight / weight.sum(0)
    variance = jnp.concatenate([row_products(share[:, c, None], jnp.square(x - mean[c])) for c in range(classes)])
    total = weight.sum(1) / weight.sum()
    variance = variance + smoothing * (total @ jnp.square(x - total @ x)).max()
    if known(variance):
        for c, j in np.argwhere(~(np.asarray(variance) > 0))[:1]:
            raise ValueError(f"fit_naive_bayes: feature {j} does not vary in class {c}; drop it, or raise smoothing")
    return NaiveBayes(prior, mean, variance)


def fit_lda(
    x: Float[Array, "n d"],
    labels: Discrete[Array, " n"],
    classes: int,
    *,
    where: Discrete[Array, " n"] | None = None,
    unbiased: bool = False,
    shrinkage: Number = 0.0,
    ridge: Number = 0.0,
) -> Gaussians:
    """Linear discriminant analysis: Σ = Σ_c Σ_{i∈c} (x_i − μ_c)(x_i − μ_c)ᵀ / n, the maximum-likelihood divisor.

    `unbiased` divides by n − C (scikit-learn's solvers "lsqr" and "eigen" divide by n). Then
    Σ ↦ (1 − s)Σ + s·(tr Σ/d)·I for `shrinkage` s in [0, 1], and Σ ↦ Σ + r·I for `ridge` r ≥ 0 in squared units of x.
    Raises `ValueError` for a class without examples and a Σ that is singular; inside `jit` those give NaN.

    >>> model = fit_lda(jnp.asarray([[0.0], [2.0], [4.0], [6.0]]), jnp.asarray([0, 0, 1, 1]), 2)
    >>> round(float(jnp.exp(predict(model, jnp.asarray([[2.5]])).log_posterior[0, 1])), 4)
    0.1192
    """
    x, weight, prior, mean = _means("fit_lda", x, labels, classes, where)
    scatter = sum(_scatter(x - mean[c], weight[:, c]) for c in range(classes))
    covariance = scatter / (weight.sum() - (classes if unbiased else 0))
    covariance = _regular("fit_lda", covariance, shrinkage, ridge)
    _refuse_singular("fit_lda", "the covariance that the classes share", covariance)
    return Gaussians(prior, mean, covariance[None])


def fit_qda(
    x: Float[Array, "n d"],
    labels: Discrete[Array, " n"],
    classes: int,
    *,
    where: Discrete[Array, " n"] | None = None,
    unbiased: bool = False,
    shrinkage: Number = 0.0,
    ridge: Number = 0.0,
) -> Gaussians:
    """Quadratic discriminant analysis: Σ_c = Σ_{i∈c} (x_i − μ_c)(x_i − μ_c)ᵀ / n_c, the maximum-likelihood divisor.

    `unbiased` divides by n_c − 1; `shrinkage` and `ridge` as in `fit_lda`, for every class (scikit-learn's `reg_param`
    shrinks towards I instead).
    Raises `ValueError` for a class without examples and, by its number, for one whose covariance is singular; inside
    `jit` those give NaN.
    """
    x, weight, prior, mean = _means("fit_qda", x, labels, classes, where)
    count = weight.sum(0) - (1 if unbiased else 0)
    found = []
    for c in range(classes):
        covariance = _regular("fit_qda", _scatter(x - mean[c], weight[:, c]) / count[c], shrinkage, ridge)
        _refuse_singular("fit_qda", f"the covariance of class {c}", covariance)
        found.append(covariance)
    return Gaussians(prior, mean, jnp.stack(found))


@highest
def _means(
    name: str, x: Array, labels: Array, classes: int, where: Array | None
) -> tuple[Array, Float[Array, "n c"], Float[Array, " c"], Float[Array, "c d"]]:
    """x in float32 or wider, 0 in rows that do not count; weights by class; log-priors; means of the classes."""
    if jnp.ndim(x) != 2:
        raise ValueError(f"{name}: x must be [n, d], got shape {jnp.shape(x)}; flatten the examples")
    index, inside, _ = class_labels(name, labels, (len(x),), classes, where=where)
    counted = marks(name, where, (len(x),))
    inside = inside if counted is None else inside & counted
    x = jnp.where(inside[:, None], wide(x, name), 0)
    weight = jax.nn.one_hot(index, classes, dtype=x.dtype) * inside[:, None]
    if known(weight) and not np.asarray(weight).any(0).all():
        missing = int(np.flatnonzero(~np.asarray(weight).any(0))[0])
        raise ValueError(f"{name}: class {missing} of {classes} has no example; leave it out, or pass more data")
    mean = row_products(weight / weight.sum(0), x)
    return x, weight, class_log_prior(labels, classes, where=where).astype(x.dtype), mean


@highest
def _scatter(residual: Float[Array, "n d"], weight: Float[Array, " n"]) -> Float[Array, "d d"]:
    return row_products(residual * weight[:, None], residual)


def _regular(name: str, covariance: Float[Array, "d d"], shrinkage: Number, ridge: Number) -> Float[Array, "d d"]:
    in_range(name, "shrinkage", shrinkage, lambda s: 0 <= s <= 1, "lie in [0, 1]")
    in_range(name, "ridge", ridge, lambda r: r >= 0, "not be negative")
    size = len(covariance)
    sphere = jnp.trace(covariance) / size * jnp.eye(size, dtype=covariance.dtype)
    return (1 - shrinkage) * covariance + shrinkage * sphere + ridge * jnp.eye(size, dtype=covariance.dtype)


def _refuse_singular(name: str, what: str, covariance: Array) -> None:
    """Raises `ValueError` when the correlations have an eigenvalue that is 0 to rounding; units do not matter."""
    if not known(covariance):
        return
    matrix = np.asarray(covariance, np.float64)
    std = np.sqrt(np.diag(matrix))
    constant = np.flatnonzero(~(std > 0))
    if len(constant):
        raise ValueError(f"{name}: {what} is singular: feature {constant[0]} does not vary; pass shrinkage or ridge")
    smallest = np.linalg.eigvalsh(matrix / np.outer(std, std))[0]
    if not smallest > len(matrix) * jnp.finfo(covariance.dtype).eps:
        raise ValueError(
            f"{name}: {what} is singular (smallest eigenvalue of its correlations {smallest:.1g}): features depend on "
            "each other or examples are few; pass shrinkage or ridge"
        )


def log_likelihood(
    model: NaiveBayes | Gaussians, x: Float[Array, "b d"], observed: Bool[Array, "..."] | None = None
) -> Float[Array, "b c"]:
    """log p(x|y) in nats of the density, for every class.

    `observed`, [b, d] or [d] for all examples alike, marks the features that are known: the others, which may be NaN,
    are integrated out, p(x_o|y) = N(x_o; μ_o, Σ_oo). Raises `ValueError` for shapes that do not fit.
    """
    size = model.mean.shape[1]
    has_shape("log_likelihood", "x", x, (len(x), size), f"[b, {size}]")
    if observed is None:
        observed = jnp.ones(size, bool)
    if observed.shape not in (x.shape, x.shape[1:]):
        raise ValueError(f"log_likelihood: observed has shape {observed.shape}, expected {x.shape} or {x.shape[1:]}")
    if isinstance(model, NaiveBayes):
        return _naive(model, x, jnp.broadcast_to(observed, x.shape))
    if observed.ndim == 1:
        return _full(model, x, observed)
    return jax.vmap(lambda x, o: _full(model, x[None], o)[0])(x, observed)


def _naive(model: NaiveBayes, x: Array, observed: Array) -> Array:
    x, seen = safe(x, observed)[:, None], observed[:, None]
    terms = jnp.square(x - model.mean) / model.variance + jnp.log(model.variance) + math.log(2 * math.pi)
    return -0.5 * jnp.where(seen, terms, 0).sum(-1)


@highest
def _full(model: Gaussians, x: Float[Array, "b d"], observed: Bool[Array, " d"]) -> Float[Array, "b c"]:
    size = x.shape[1]
    # With the rows and columns of what is missing those of the identity, and no deviation there, what is left is the
    # marginal: its determinant, its quadratic form.
    both = observed[:, None] & observed[None]
    factor = jnp.linalg.cholesky(jnp.where(both, model.covariance, jnp.eye(size, dtype=model.covariance.dtype)))
    deviation = jnp.where(observed, jnp.where(observed, x, 0)[:, None] - model.mean, 0)
    factors = jnp.broadcast_to(factor, (len(model.mean), size, size))
    solved = jax.vmap(lambda f, d: jax.scipy.linalg.solve_triangular(f, d.T, lower=True), (0, 1), 1)(factors, deviation)
    log_det = 2 * jnp.log(jnp.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    return -0.5 * (jnp.square(solved).sum(0).T + log_det + observed.sum() * math.log(2 * math.pi))


def predict(
    model: NaiveBayes | Gaussians, x: Float[Array, "b d"], observed: Bool[Array, "..."] | None = None
) -> Posterior:
    """p(y|x) and p(x) by Bayes' rule, of the observed features alone where they are marked (see `log_likelihood`)."""
    return bayes(log_likelihood(model, x, observed), model.log_prior)


@highest
def linear(model: Gaussians) -> tuple[Float[Array, "d c"], Float[Array, " c"]]:
    """W = Σ⁻¹ μ_c and b = −½ μ_cᵀ Σ⁻¹ μ_c + log p(c) of LDA: softmax(x W + b) is its p(y|x), a linear classifier.

    Raises `ValueError` for a model whose classes have covariances of their own.
    """
    if len(model.covariance) != 1:
        raise ValueError(f"linear: {len(model.covariance)} covariances; only LDA, which has one, is linear in x")
    kernel = jax.scipy.linalg.cho_solve((jnp.linalg.cholesky(model.covariance[0]), True), model.mean.T)
    return kernel, -0.5 * (model.mean.T * kernel).sum(0) + model.log_prior


@highest
def draw(key: Key, model: NaiveBayes | Gaussians, labels: Discrete[Array, " n"]) -> Float[Array, "n d"]:
    """x ~ p(x|y) for every label. Raises `ValueError` unless labels are [n], and for no class where they are known."""
    has_shape("draw", "labels", labels, (jnp.size(labels),), "[n]")
    index, _, _ = class_labels("draw", labels, jnp.shape(labels), len(model.mean))
    noise = jax.random.normal(key, (len(labels), model.mean.shape[1]), model.mean.dtype)
    if isinstance(model, NaiveBayes):
        return model.mean[index] + jnp.sqrt(model.variance)[index] * noise
    factor = jnp.linalg.cholesky(model.covariance)
    spread = jnp.stack([noise @ f.T for f in factor], axis=1)
    own = spread[:, 0] if len(factor) == 1 else jnp.take_along_axis(spread, index[:, None, None], axis=1)[:, 0]
    return model.mean[index] + own
