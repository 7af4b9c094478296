"""Maximum likelihood in closed form: parameters of a family that make the samples likeliest (lecture 3.6–3.8).

Samples are independent, on the first axis. Where the likelihood grows without bound, such as that of equal samples at a
deviation going to 0, `ValueError` is raised; that needs concrete values, and inside jit the result is then infinite.
Sums and counts are in at least single precision, whatever the samples' dtype.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Num, Shaped

from dlcore.precision import matmul
from dlcore.setting import traced
from dlcore.stats._special import mean_and_variance, root, wide
from dlcore.types import Params


def fit_normal(samples: Shaped[ArrayLike, "m *s"]) -> Params:
    """μ̂ = x̄ and σ̂² = Σ (x − x̄)²/m, element by element: parameters of `normal`.

    Raises `ValueError` for no samples, or all equal.
    """
    _check_some(samples, "fit_normal")
    mean, variance = mean_and_variance(samples)
    std = root(variance)
    _check_positive(std, "fit_normal: the samples are all equal")
    return {"mean": mean, "log_scale": jnp.log(std)}


def fit_laplace(samples: Shaped[ArrayLike, "m *s"]) -> Params:
    """μ̂ = a median and b̂ = Σ |x − μ̂|/m, element by element: parameters of `laplace`.

    Raises `ValueError` for no samples, or all equal.
    """
    _check_some(samples, "fit_laplace")
    samples = wide(samples)
    median = jnp.median(samples, axis=0)
    scale = jnp.abs(samples - median).mean(0)
    _check_positive(scale, "fit_laplace: the samples are all equal")
    return {"mean": median, "log_scale": jnp.log(scale)}


def fit_bernoulli(samples: Shaped[ArrayLike, "m *s"]) -> Params:
    """p̂ = share of ones, as the logit log p̂/(1 − p̂), ±∞ when all are alike: parameters of `bernoulli`.

    Raises `ValueError` for no samples, or others than 0 and 1.
    """
    _check_some(samples, "fit_bernoulli")
    _check_outcomes(samples, 2, "fit_bernoulli")
    ones = jnp.asarray(samples).sum(0)
    return {"logit": jnp.log(wide(ones)) - jnp.log(wide(len(samples) - ones))}


def fit_categorical(samples: Shaped[ArrayLike, "m *s"], classes: int) -> Params:
    """p̂_k = share of k, as logits log p̂, −∞ for classes not seen: parameters of `categorical`, [..., classes].

    Raises `ValueError` for no samples, or some outside 0 … classes − 1.
    """
    _check_some(samples, "fit_categorical")
    _check_outcomes(samples, classes, "fit_categorical")
    counts = (jnp.asarray(samples)[..., None] == jnp.arange(classes)).sum(0)
    return {"logits": jnp.log(wide(counts) / len(samples))}


def fit_linear(inputs: Num[ArrayLike, "m d"], targets: Num[ArrayLike, "n *k"]) -> Params:
    """Linear regression y ~ N(Xw, σ²): ŵ by least squares, the smallest if many fit, σ̂² = Σ (y − Xŵ)²/m.

    `kernel` [d] and `log_scale` of targets [m]; of k targets at once [m, k] they are [d, k] and [k]. Append a column of
    ones for a bias. Raises `ValueError` for unequal numbers of rows or none, or when the line goes through all points.
    """
    _check_some(inputs, "fit_linear")
    inputs, targets = wide(inputs), wide(targets)
    if inputs.ndim != 2 or targets.ndim not in (1, 2) or len(inputs) != len(targets):
        raise ValueError(
            f"fit_linear: {len(inputs)} inputs and {len(targets)} targets of shapes {inputs.shape} and {targets.shape};"
            " expected [m, d] and [m] or [m, k]"
        )
    kernel = matmul(jnp.linalg.pinv(inputs), targets)
    variance = jnp.square(targets - matmul(inputs, kernel)).mean(0)
    rounding = (len(targets) * jnp.finfo(targets.dtype).eps) ** 2 * jnp.square(targets).mean(0)
    _check_positive(variance - rounding, "fit_linear: the targets are met exactly")
    return {"kernel": kernel, "log_scale": 0.5 * jnp.log(variance)}


def _check_some(samples: ArrayLike, name: str) -> None:
    if not len(samples):
        raise ValueError(f"{name}: there are no samples")


def _check_positive(scale: Array, event: str) -> None:
    if not traced(scale) and not (np.asarray(scale) > 0).all():
        raise ValueError(f"{event} or not finite: the likelihood has no maximum")


def _check_outcomes(samples: ArrayLike, classes: int, name: str) -> None:
    if traced(samples):
        return
    seen = np.asarray(samples)
    if seen.min() < 0 or seen.max() >= classes or (seen != np.floor(seen)).any():
        raise ValueError(f"{name}: samples must be whole numbers in 0 … {classes - 1}, got {seen.min()} … {seen.max()}")
