"""The mini-batch gradient as an estimator: its exact mean and covariance over all batches (lecture 6.1–6.2).

Per-example gradients are the rows of a matrix g [n, d]; a mini-batch gradient is the mean of k of them.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from dlcore.precision import matmul
from dlcore.stats._distribution import Estimate, monte_carlo
from dlcore.stats._special import gram, wide
from dlcore.types import Key, Params

LARGEST = 10**7
"""Most examples, over all batches, that are enumerated."""


class BatchMoments(NamedTuple):
    """Mean and covariance of the mini-batch gradient over the choice of the batch."""

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]


def per_example_gradients(
    loss: Callable[[Params, Any], Float[Array, ""]], params: Params, examples: Any
) -> Float[Array, "n d"]:
    """Rows ∇_θ loss(θ, example_i), θ flattened; `examples` is a tree of arrays with a common leading axis."""
    gradient = jax.vmap(jax.grad(loss), (None, 0))(params, examples)
    return jax.vmap(lambda tree: ravel_pytree(tree)[0])(gradient)


def batches(n: int, k: int, *, replace: bool = False) -> Int[np.ndarray, "count k"]:
    """All C(n, k) sets of k of n examples; with `replace` all nᵏ sequences. Each is equally likely as a mini-batch.

    Raises `ValueError` for k outside 1 … n (with `replace`: below 1), or more than `LARGEST` numbers.
    """
    if not (k >= 1 and (replace or k <= n)):
        raise ValueError(f"batches: {k} of {n} examples cannot be drawn")
    count = n**k if replace else math.comb(n, k)
    if count * k > LARGEST:
        raise ValueError(f"batches: {count} batches of {k} are too many to enumerate; see predicted_covariance")
    chosen = itertools.product(range(n), repeat=k) if replace else itertools.combinations(range(n), k)
    return np.fromiter(itertools.chain.from_iterable(chosen), np.int32, count * k).reshape(count, k)


def batch_moments(gradients: Float[Array, "n *d"], k: int, *, replace: bool = False) -> BatchMoments:
    """Exact mean and covariance of the mini-batch gradient, by enumeration of every batch of k.

    The mean is the full gradient, Σ_i g_i/n: the estimate is unbiased. Raises what `batches` raises.
    """
    _check_rows("batch_moments", gradients)
    estimates = wide(gradients)[batches(len(gradients), k, replace=replace)].mean(1)
    mean = estimates.mean(0)
    return BatchMoments(mean, gram(estimates - mean) / len(estimates))


def predicted_covariance(gradients: Float[Array, "n *d"], k: int, *, replace: bool = False) -> Float[Array, "d d"]:
    """Σ/k with replacement, Σ/k · (n − k)/(n − 1) without, Σ = Σ_i (g_i − ḡ)(g_i − ḡ)ᵀ/n (Cochran 1977, theorem 2.2).

    0 for the full batch without replacement. Raises `ValueError` for k outside 1 … n (with `replace`: below 1).
    """
    _check_rows("predicted_covariance", gradients)
    n, gradients = len(gradients), wide(gradients)
    if not (k >= 1 and (replace or k <= n)):
        raise ValueError(f"predicted_covariance: {k} of {n} examples cannot be drawn")
    centred = gradients - gradients.mean(0)
    factor = 1.0 if replace or n == 1 else (n - k) / (n - 1)
    return gram(centred) / n / k * factor


def sampled_noise(key: Key, gradients: Float[Array, "n *d"], k: int, draws: int) -> Estimate:
    """E‖ĝ − ḡ‖², the trace of the covariance, from `draws` batches of k drawn without replacement, with its error.

    For more batches than can be enumerated; of sums over the n × n inner products, so that d may be large. Raises
    `ValueError` for k outside 1 … n or fewer than 2 draws.
    """
    _check_rows("sampled_noise", gradients)
    n, gradients = len(gradients), wide(gradients)
    if not 1 <= k <= n:
        raise ValueError(f"sampled_noise: {k} of {n} examples cannot be drawn")
    apart = gradients - gradients.mean(0)
    # A batch holds the k places with the smallest of n random numbers.
    order = jax.random.uniform(key, (draws, n)).argsort(-1).argsort(-1)
    chosen = (order < k).astype(gradients.dtype) / k
    return monte_carlo((matmul(chosen, matmul(apart, apart.T)) * chosen).sum(-1))


def noise_by_size(gradients: Float[Array, "n d"], *, seed: int = 0, draws: int = 4000) -> dict[str, np.ndarray]:
    """E‖ĝ − ḡ‖² for batches of 1, 2, 4, … below n examples, measured and predicted (lecture 6.2).

    Arrays [m]: the `sizes` k, what is `measured` without replacement and its standard `error`, and the predictions
    `with` replacement, σ²/k, and `without`, σ²/k · (n − k)/(n − 1). Batches of k are drawn with the key `seed` + k.
    """
    _check_rows("noise_by_size", gradients)
    count = len(gradients)
    sizes = 2 ** np.arange(int(np.log2(count - 1)) + 1)
    found = [sampled_noise(jax.random.key(seed + int(k)), gradients, int(k), draws) for k in sizes]
    one = float(jnp.square(gradients - gradients.mean(0)).sum() / count)
    return {
        "sizes": sizes,
        "measured": np.array([estimate.mean for estimate in found]),
        "error": np.array([estimate.standard_error for estimate in found]),
        "with": one / sizes,
        "without": one / sizes * (count - sizes) / (count - 1),
    }


def _check_rows(name: str, gradients: Array) -> None:
    if gradients.ndim != 2:
        raise ValueError(f"{name}: gradients must be rows [n, d], one per example, got shape {gradients.shape}")
