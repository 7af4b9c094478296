"""Principal components (lecture 20.1): the directions along which data vary most, the best linear code of its length.

For rows x_1 … x_n with mean μ the components are the eigenvectors v_1, v_2, … of the covariance
S = Σ (x_i − μ)(x_i − μ)ᵀ / (n − 1), ordered by their eigenvalues λ; the code of x is z_j = v_j · (x − μ). Among all
linear codes of k numbers this one has the least squared error of reconstruction.

A fit is a `PCA`, whose fields have scikit-learn's names without the final underscore, and its values: `fit_svd` of data
in memory, `fit_randomized` of large data, `dlcore.retrieval.fit_incremental` of batches.

Signs: of every component the entry of largest magnitude is positive, the first one where several are as large (to one
part in 10⁴, so that rounding does not choose). This depends on the component alone, on no machine and no order of the
rows. Where eigenvalues are equal, only the span of their components is determined.
"""

import functools
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from dlcore.operands import wide
from dlcore.precision import matmul
from dlcore.types import Key

Array: TypeAlias = jax.Array | np.ndarray
"""Fits of batches are NumPy arrays, in float64."""

TIE = 1e-4
"""Relative difference up to which two entries of a component count as equally large."""


class PCA(NamedTuple):
    """k principal components of d features, all in the units of the data or their squares."""

    components: Float[Array, "k d"]
    """Orthonormal rows, by decreasing variance."""
    explained_variance: Float[Array, " k"]
    """λ, the variance along each component with divisor n − 1. What is 0 but for rounding is exactly 0."""
    explained_variance_ratio: Float[Array, " k"]
    """λ over the variance of all d directions, also of those that were not kept."""
    singular_values: Float[Array, " k"]
    """Of the centred data: √((n − 1) λ)."""
    mean: Float[Array, " d"]
    noise_variance: Float[Array, ""]
    """Mean variance along the min(n, d) − k directions left out (Tipping & Bishop 1999); 0 if none is."""


def fit_svd(x: Num[Array, "..."], n_components: int) -> PCA:
    """Components of rows [n, d] from the whole singular value decomposition X − μ = U diag(s) Vᵀ; O(n d min(n, d)).

    Centred in two passes, so that a large offset costs float32 no digits. Raises `ValueError` unless there are two
    rows and 1 ≤ n_components ≤ min(n, d).

    >>> fitted = fit_svd(jnp.array([[2.0, 0, 0], [-2, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 0.5], [0, 0, -0.5]]), 1)
    >>> fitted.components.tolist(), round(float(fitted.explained_variance_ratio[0]), 6)
    ([[1.0, 0.0, 0.0]], 0.761905)
    """
    check_fit("fit_svd", x.shape, n_components)
    return _svd(wide(jnp.asarray(x), "fit_svd"), n_components)


def fit_randomized(
    x: Num[Array, "..."], n_components: int, *, key: Key, oversamples: int = 10, iterations: int = 4
) -> PCA:
    """Components of rows [n, d] from a random subspace that power iterations turn towards the leading ones; O(n d k).

    W = orthonormal basis of (XᵀX)^q Ω with Ω normal, k + `oversamples` columns and q = `iterations`; then the singular
    vectors of X within the span of X W (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.1). The sine of the angle
    to component j falls as (λ_{k+p+1}/λ_j)^q: a spectrum that is flat behind k needs more iterations. Variance ratios
    are of all variance. Raises `ValueError` as `fit_svd`, and for negative settings.
    """
    check_fit("fit_randomized", x.shape, n_components)
    if oversamples < 0 or iterations < 0:
        raise ValueError(f"fit_randomized: oversamples={oversamples} and iterations={iterations} must not be negative")
    return _randomized(wide(jnp.asarray(x), "fit_randomized"), key, n_components, oversamples, iterations)


def transform(pca: PCA, x: Num[Array, "*b d"], *, whiten: bool = False) -> Float[Array, "*b k"]:
    """Codes z = V (x − μ); whitened ones z_j / √λ_j have variance 1 on the fitted data, and 0 where λ_j = 0.

    Raises `ValueError` for another number of features.
    """
    _check_size("transform", x.shape, pca.mean.shape[0], "features")
    centred = wide(jnp.asarray(x), "transform") - jnp.asarray(pca.mean)
    z = matmul(centred, jnp.asarray(pca.components).T)
    return z * _inverse_root(pca.explained_variance) if whiten else z


def inverse_transform(pca: PCA, z: Float[Array, "*b k"], *, whiten: bool = False) -> Float[Array, "*b d"]:
    """Reconstructions μ + Vᵀ z of codes, whitened ones if `whiten`. Raises `ValueError` for another length of code."""
    _check_size("inverse_transform", z.shape, len(pca.components), "numbers")
    scaled = z * jnp.sqrt(jnp.asarray(pca.explained_variance)) if whiten else z
    return matmul(scaled, jnp.asarray(pca.components)) + jnp.asarray(pca.mean)


def reconstruction_mse(pca: PCA, x: Num[Array, "*b d"]) -> Float[Array, "*b"]:
    """‖x − μ − Vᵀ V (x − μ)‖² / d of every row, in squared units of the data (lecture 20.1)."""
    centred = wide(jnp.asarray(x), "reconstruction_mse") - jnp.asarray(pca.mean)
    lost = centred - (inverse_transform(pca, transform(pca, x)) - jnp.asarray(pca.mean))
    return jnp.square(lost).mean(-1)


def keep(pca: PCA, n_components: int) -> PCA:
    """The first components of a fit alone, all numbers as if only they had been fitted, but for `noise_variance`.

    That is NaN, as the number of directions left out is not known here. Raises `ValueError` for more than there are.
    """
    if not 1 <= n_components <= len(pca.components):
        raise ValueError(f"keep: n_components={n_components} of {len(pca.components)}; use 1 to {len(pca.components)}")
    if n_components == len(pca.components):
        return pca
    first = [values[:n_components] for values in pca[:4]]
    return PCA(*first, pca.mean, jnp.full_like(pca.noise_variance, jnp.nan))


def signed(components: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """Rows, turned so that the first of their largest entries is positive; see the top of this file."""
    xp = np if isinstance(components, np.ndarray) else jnp
    size = xp.abs(components)
    large = size >= (1 - TIE) * size.max(-1, keepdims=True)
    decisive = xp.take_along_axis(components, large.argmax(-1)[:, None], -1)
    return xp.where(decisive < 0, -components, components)


def check_fit(function: str, shape: tuple[int, ...], n_components: int) -> None:
    """Raise `ValueError` unless data of `shape` have so many principal components."""
    if len(shape) != 2:
        raise ValueError(f"{function}: expected rows of features [n, d], got {shape}; flatten images first")
    if shape[0] < 2:
        raise ValueError(f"{function}: {shape[0]} rows have no variance; pass two at least")
    if not 1 <= n_components <= min(shape):
        raise ValueError(f"{function}: n_components={n_components} of {shape[0]} rows of {shape[1]} features; "
                         f"use 1 to {min(shape)}")  # fmt: skip


def _check_size(function: str, shape: tuple[int, ...], size: int, what: str) -> None:
    if not shape or shape[-1] != size:
        raise ValueError(f"{function}: expected {size} {what} on the last axis, as fitted, got shape {shape}")


def _inverse_root(variance: Float[Array, " k"]) -> Float[Array, " k"]:
    variance = jnp.asarray(variance)
    return jnp.where(variance > 0, jax.lax.rsqrt(jnp.where(variance > 0, variance, 1)), 0)


def _centred(x: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Float[Array, " d"]]:
    """Rows less their mean, and the mean: an estimate from differences, corrected by the mean of what it leaves."""
    rough = x[0] + (x - x[0]).mean(0)
    near = x - rough
    rest = near.mean(0)
    return near - rest, rough + rest


@functools.partial(jax.jit, static_argnums=1)
def _svd(x: Float[Array, "n d"], k: int) -> PCA:
    centred, mean = _centred(x)
    _, s, v = jnp.linalg.svd(centred, full_matrices=False)
    s = jnp.where(s > max(x.shape) * jnp.finfo(s.dtype).eps * s[0], s, 0)
    return _fitted(v[:k], s[:k], jnp.square(s).sum(), mean, x.shape)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def _randomized(x: Float[Array, "n d"], key: Key, k: int, oversamples: int, iterations: int) -> PCA:
    centred, mean = _centred(x)
    w = jax.random.normal(key, (x.shape[1], min(k + oversamples, *x.shape)), x.dtype)
    turn = lambda _, w: jnp.linalg.qr(matmul(centred.T, matmul(centred, w)))[0]  # noqa: E731
    w = jax.lax.fori_loop(0, iterations, turn, w)
    q, _ = jnp.linalg.qr(matmul(centred, w))
    _, s, v = jnp.linalg.svd(matmul(q.T, centred), full_matrices=False)
    s = jnp.where(s > max(x.shape) * jnp.finfo(s.dtype).eps * s[0], s, 0)
    return _fitted(v[:k], s[:k], jnp.square(centred).sum(), mean, x.shape)


def _fitted(
    v: Float[Array, "k d"], s: Float[Array, " k"], total: Float[Array, ""], mean: Float[Array, " d"], shape: tuple
) -> PCA:
    """All fields from components, singular values, and the sum of squares of the centred data."""
    squares, left = jnp.square(s), min(shape) - len(s)
    noise = jnp.maximum(total - squares.sum(), 0) / (max(left, 1) * (shape[0] - 1)) * (left > 0)
    ratio = squares / jnp.where(total > 0, total, 1)
    return PCA(signed(v), squares / (shape[0] - 1), ratio, s, mean, noise)
