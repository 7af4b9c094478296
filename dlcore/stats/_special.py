"""Elementary functions where the plain formula loses its digits, or its gradient (lecture 2.13–2.15, 3.6).

Each is accurate to a few units in the last place of its dtype, and has finite derivatives.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)

STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360_360, 1 / 156)
"""Coefficients of z⁻¹, z⁻³, … in Stirling's series (Abramowitz & Stegun 1964, eq. 6.1.41)."""

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6)
"""Bernoulli's numbers B₂, B₄, …: coefficients of z⁻¹, z⁻³, … of z² ψ′(z) − z − ½."""

SHIFT = 8
"""From here on the series has float64's digits."""


def wide(x: Shaped[ArrayLike, "*s"]) -> Float[Array, "*s"]:
    """x in at least single precision: half precision becomes float32, integers and Python's numbers the default."""
    x = jnp.asarray(x)
    dtype = jnp.result_type(x, float)
    return x.astype(dtype if dtype.itemsize >= 4 else jnp.float32)


def root(x: Float[ArrayLike, "*s"]) -> Float[Array, "*s"]:
    """√x with derivative 0 at 0, where that of `jnp.sqrt` is infinite; 0 below 0, which rounding brings about."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), jnp.where(jnp.isnan(x), x, 0.0))


def mean_and_variance(
    values: Shaped[ArrayLike, "m *s"], *, ddof: int = 0
) -> tuple[Float[Array, "*s"], Float[Array, "*s"]]:
    """Mean and variance over the first axis, the variance by 1/(m − `ddof`), in at least single precision.

    Values far from 0 keep the digits in which they differ: sums are those of deviations.
    """
    origin, away = _deviations(jnp.asarray(values))
    shift = away.mean(0)
    return origin + shift, jnp.square(away - shift).sum(0) / (len(values) - ddof)


def _deviations(values: Array) -> tuple[Array, Array]:
    """An origin near the values and x − origin as floats."""
    if jnp.issubdtype(values.dtype, jnp.integer) and values.dtype.itemsize >= 4:
        # They may have more digits than a float: high and low halves are subtracted as integers.
        signed = jnp.int32 if values.dtype.itemsize == 4 else jnp.int64
        high, low = (part.astype(signed) for part in (values >> 16, values & 0xFFFF))
        high, low = (wide(part - part[0]) for part in (high, low))
        return wide(values[0]), high * 65536 + low
    values = wide(values)
    mean = values.mean(0)
    origin = jnp.where(jnp.isfinite(mean), mean, 0.0)
    return origin, values - origin


def scaled(values: Float[Array, "..."]) -> tuple[Float[Array, "..."], Float[Array, ""]]:
    """values/m and their largest m, 1 if that is not positive: products with small numbers do not underflow."""
    largest = jax.lax.stop_gradient(values.max(initial=0.0))
    largest = jnp.where(largest > 0, largest, 1.0)
    return values / largest, largest


def gram(rows: Float[Array, "n d"]) -> Float[Array, "d d"]:
    """Σ_i r_i r_iᵀ, in blocks of rows: one long inner product in single precision loses digits."""
    blocks = jnp.pad(rows, ((0, -len(rows) % 1024), (0, 0))).reshape(-1, 1024, rows.shape[1])
    return jnp.einsum("bnd,bne->bde", blocks, blocks, precision="highest").sum(0)


def expm2(x: Float[ArrayLike, "*s"]) -> Float[Array, "*s"]:
    """eˣ − 1 − x ≥ 0, to full relative precision near 0, where it is x²/2."""
    near = jnp.abs(x) < 0.5
    small, large = jnp.where(near, x, 0.0), jnp.where(near, 1.0, x)
    series = jnp.ones_like(small)
    for n in range(15, 2, -1):
        series = 1 + series * small / n
    return jnp.where(near, small * small / 2 * series, jnp.expm1(large) - large)


def stirling_remainder(z: Float[ArrayLike, "*s"]) -> Float[Array, "*s"]:
    """δ(z) = log Γ(z) − (z − ½) log z + z − ½ log 2π for z > 0: what is left of log Γ when its large part has gone.

    By Stirling's series, for small z after δ(z) = δ(z + 1) + (z + ½) log(1 + 1/z) − 1.
    """
    small = z < SHIFT
    low = jnp.where(small, z, 1.0)
    steps = ((low + k + 0.5) * jnp.log1p(1 / (low + k)) - 1 for k in range(SHIFT))
    return _series(jnp.where(small, z + SHIFT, z)) + jnp.where(small, sum(steps), 0.0)


def stirling_slope(z: Float[ArrayLike, "*s"]) -> Float[Array, "*s"]:
    """δ′(z) = ψ(z) − log z + 1/(2z), ψ the digamma function."""
    return jax.jvp(stirling_remainder, (z,), (jnp.ones_like(z),))[1]


def curvature(z: Float[ArrayLike, "*s"]) -> Float[Array, "*s"]:
    """k(z) = z² ψ′(z) − z for z > 0, ψ′ the trigamma function: 1 at 0, falling to ½, to full relative precision.

    By the series of Bernoulli's numbers, for small z after ψ′(z) = ψ′(z + 1) + z⁻².
    """
    small = z < SHIFT
    low = jnp.where(small, z, 1.0)
    high = jnp.where(small, z + SHIFT, z)
    inverse = 1 / high
    square, series = inverse * inverse, 0.0
    for coefficient in reversed(BERNOULLI):
        series = series * square + coefficient
    at_high = 0.5 + series * inverse
    # z² ψ′(z + 8) − z with ψ′(w) = (w + k(w))/w².
    share = low / (low + SHIFT)
    shifted = share * share * at_high - low * (1 - share) + sum(jnp.square(low / (low + k)) for k in range(SHIFT))
    return jnp.where(small, shifted, at_high)


def log_odds(x: Float[ArrayLike, "*s"]) -> Float[Array, "*s"]:
    """log x/(1 − x) for 0 < x < 1, to full relative precision near ½, where it is 0."""
    middle = jnp.abs(x - 0.5) < 0.25
    inner, outer = jnp.where(middle, x, 0.5), jnp.where(middle, 0.25, x)
    return jnp.where(middle, 2 * jnp.arctanh(2 * inner - 1), jnp.log(outer) - jnp.log1p(-outer))


def log_softmax(logits: Float[ArrayLike, "*b k"]) -> Float[Array, "*b k"]:
    """a − log Σ eᵃ over the last axis; the largest to full relative precision too, where it is nearly 0.

    −∞ is a probability of 0; all of them together give NaN.
    """
    first = jax.nn.one_hot(logits.argmax(-1), logits.shape[-1], dtype=bool)
    # A shift by one entry, so that the 1 in the sum is that entry's and needs no rounding.
    shifted = jnp.where(first, 0.0, logits - jnp.where(first, logits, 0.0).sum(-1, keepdims=True))
    return shifted - jnp.log1p(jnp.where(first, 0.0, jnp.exp(shifted)).sum(-1, keepdims=True))


def _series(z: Array) -> Array:
    inverse = 1 / z
    square, total = inverse * inverse, 0.0
    for coefficient in reversed(STIRLING):
        total = total * square + coefficient
    return total * inverse
