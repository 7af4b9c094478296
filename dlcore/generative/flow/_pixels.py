"""Between grey levels and densities: dequantisation, its constant, preprocessing (lecture 28).

Grey levels are x ∈ {0, …, L − 1}^D; dequantised y = (x + u)/L ∈ [0, 1)^D with u uniform on [0, 1)^D.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer

from dlcore.generative.check import in_range
from dlcore.generative.flow._chain import Moved, no_change
from dlcore.operands import equal_shapes
from dlcore.setting import Number, traced
from dlcore.types import Bijector, Key, Params


def dequantize(x: Integer[Array, "*s"], noise: Float[Array, "*s"], levels: int) -> Float[Array, "*s"]:
    """y = (x + u)/L in [0, 1) for grey levels x and noise u in [0, 1) (Theis et al. 2016, section 3.1).

    Raises `ValueError` unless there is noise for every sub-pixel, and for levels outside 0 … L − 1 where they are
    known; inside `jit` those give NaN.
    """
    equal_shapes("dequantize", x=x, noise=noise)
    _check_levels(x, levels)
    inside = (x >= 0) & (x <= levels - 1)
    return jnp.where(inside, jnp.minimum((x + noise) / levels, 1 - jnp.finfo(noise.dtype).epsneg), jnp.nan)


def _check_levels(x: Array, levels: int) -> None:
    if traced(x) or not x.size:
        return
    low, high = int(np.asarray(x).min()), int(np.asarray(x).max())
    if not 0 <= low <= high < levels:
        raise ValueError(f"dequantize: grey levels lie in {low} … {high}, but levels={levels}")


def quantize(y: Float[Array, "*s"], levels: int) -> Float[Array, "*s"]:
    """The grey level ⌊L y⌋ that y falls in, as a value k/(L − 1) in [0, 1]; y outside [0, 1) is clipped."""
    return jnp.clip(jnp.floor(y * levels), 0, levels - 1) / (levels - 1)


def discrete_nats(log_density: Float[Array, " b"], dims: int, levels: int) -> Float[Array, " b"]:
    """−log p(y) + D log L, in nats of the discrete image.

    P(x) = ∫ p(y) dy over the cell of x, whose volume is L^−D, so that P(x) = L^−D E_u[p(y)] and by Jensen
    −log P(x) ≤ E_u[−log p(y)] + D log L: an upper bound in expectation (Theis et al. 2016, eq. 5).
    """
    return dims * math.log(levels) - log_density


def Logit(alpha: Number = 0.05) -> Bijector:
    """z = logit(α + (1 − 2α) y) for y in [0, 1] (Dinh et al. 2017, section 4.1). Raises `ValueError` unless 0 < α < ½.

    log|dz/dy| = log(1 − 2α) − log p − log(1 − p) per pixel, with p = α + (1 − 2α) y.
    """
    in_range("Logit", "alpha", alpha, lambda a: 0 < a < 0.5, "lie between 0 and 0.5")

    def init(key: Key, x: Array) -> Params:
        return {}

    def log_slope(z: Array) -> Float[Array, " b"]:
        return (jnp.log1p(-2 * alpha) - jax.nn.log_sigmoid(z) - jax.nn.log_sigmoid(-z)).sum(tuple(range(1, z.ndim)))

    def forward(params: Params, x: Array) -> Moved:
        p = alpha + (1 - 2 * alpha) * x
        z = jnp.log(p) - jnp.log1p(-p)
        return z, log_slope(z)

    def inverse(params: Params, z: Array) -> Moved:
        return (jax.nn.sigmoid(z) - alpha) / (1 - 2 * alpha), -log_slope(z)

    return Bijector(init, forward, inverse, "logit")


def Affine(scale: Number, shift: Number = 0.0) -> Bijector:
    """z = a x + b with fixed numbers, e.g. pixels centred by a = 1, b = −½. Raises `ValueError` for a = 0."""
    in_range("Affine", "scale", scale, lambda a: a != 0, "differ from 0: that cannot be inverted")
    in_range("Affine", "shift", shift, np.isfinite, "be finite")

    def init(key: Key, x: Array) -> Params:
        return {}

    def forward(params: Params, x: Array) -> Moved:
        return scale * x + shift, no_change(x) + math.prod(x.shape[1:]) * jnp.log(jnp.abs(scale))

    def inverse(params: Params, z: Array) -> Moved:
        return (z - shift) / scale, no_change(z) - math.prod(z.shape[1:]) * jnp.log(jnp.abs(scale))

    return Bijector(init, forward, inverse, "affine")
