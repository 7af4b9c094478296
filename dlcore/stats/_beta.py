"""The Beta distribution at every concentration that float32 holds (lecture 2.13–2.15, 3.6).

Differences of large log Γ would leave nothing of a density at α = β = 10⁵. With n = α + β, Stirling's formula takes
their common part out: log B(α, β) = −n H(α/n) − c(α, β), H the entropy of a coin, and the Beta's density is that of
a divergence between coins, n KL(α/n ‖ x), around which c is small (Loader 2000, Fast and accurate computation of
binomial probabilities). Entropy and divergence are rearranged likewise.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from dlcore.stats._check import check_same_batch
from dlcore.stats._distribution import Distribution, batch_shape, check_outcome, clamp_log_scale
from dlcore.stats._divergence import kl_coins
from dlcore.stats._special import (
    HALF_LOG_TWO_PI,
    SHIFT,
    curvature,
    expm2,
    log_odds,
    stirling_remainder,
    stirling_slope,
    wide,
)
from dlcore.types import Key, Params

LOPSIDED = 3.0
"""log β/α from which α < 1 is so much smaller that a divergence needs another form."""

LITTLE = -4.0
"""log β/α below which a difference between n and α is taken from the slope between them."""


def _logs(params: Params) -> tuple[Array, Array]:
    """log α and log β, of one shape."""
    return jnp.broadcast_arrays(*(clamp_log_scale(params[name]) for name in ("log_alpha", "log_beta")))


def _correction(a: Array, b: Array) -> Array:
    """c(α, β) = ½ log(αβ/(2πn)) − δ(α) − δ(β) + δ(n), from log α and log β."""
    n = jnp.logaddexp(a, b)
    remainders = (stirling_remainder(jnp.exp(x)) for x in (a, b, n))
    return 0.5 * (a + b - n) - HALF_LOG_TWO_PI - sum(s * r for s, r in zip((1, 1, -1), remainders, strict=True))


def _at_an_end(log_concentration: Array, log_other: Array) -> Array:
    """log f(0) by log α and log β, log f(1) the other way round: 0, ∞, or β where α = 1."""
    return jnp.where(log_concentration == 0, log_other, jnp.where(log_concentration < 0, jnp.inf, -jnp.inf))


def _log_prob(params: Params, x: ArrayLike) -> Array:
    check_outcome(params, x)
    a, b = _logs(params)
    x = wide(x)
    inside = (x > 0) & (x < 1)
    y = jnp.maximum(jnp.where(inside, x, 0.5), jnp.finfo(x.dtype).tiny)
    a, b, y = jnp.broadcast_arrays(a, b, y)
    divergence = (jnp.exp(a) + jnp.exp(b)) * kl_coins(a - b, log_odds(y) - (a - b))
    within = _correction(a, b) - divergence - jnp.log(y) - jnp.log1p(-y)
    edge = jnp.where(x == 0, _at_an_end(a, b), jnp.where(x == 1, _at_an_end(b, a), -jnp.inf))
    return jnp.where(inside, within, jnp.where(jnp.isnan(x), x, edge))


def _sample(key: Key, params: Params, shape: tuple[int, ...] = ()) -> Array:
    alpha, beta = (jnp.exp(x) for x in _logs(params))
    return jax.random.beta(key, alpha, beta, (*shape, *batch_shape(params)), alpha.dtype)


def _entropy(params: Params) -> Array:
    """log B(α, β) − (α − 1) ψ(α) − (β − 1) ψ(β) + (n − 2) ψ(n), with ψ(z) = log z − 1/(2z) + δ′(z)."""
    a, b = _logs(params)

    def part(log_z: Array, less: int) -> Array:
        z = jnp.exp(log_z)
        return stirling_remainder(z) - (z - less) * stirling_slope(z) - less / (2 * z)

    n = jnp.logaddexp(a, b)
    return HALF_LOG_TWO_PI + 0.5 * (1 + a + b - 3 * n) + part(a, 1) + part(b, 1) - part(n, 2)


def _excess(log_z: Array, log_ratio: Array) -> Array:
    """ρ = δ(w) − δ(z) − (w − z) δ′(z) with log w/z = `log_ratio`: what Stirling leaves of log Γ's divergence.

    Near a small z, where these nearly cancel, from that at z + 8 and what the steps between add, which are positive.
    """
    z, w = jnp.exp(log_z), jnp.exp(log_z + log_ratio)
    near = (jnp.abs(log_ratio) < 0.5) & (z < SHIFT)
    low, r = jnp.where(near, z, 1.0), jnp.where(near, log_ratio, 0.0)
    high, further = low * jnp.exp(r), [jnp.log1p(low * jnp.expm1(r) / (low + k)) for k in range(SHIFT + 1)]
    last = further[-1]
    steps = sum(map(expm2, further[:-1])) + 0.5 * (expm2(last) - expm2(r))
    steps = steps + (high + SHIFT) * expm2(-last) - high * expm2(-r)
    start, end = jnp.where(near, low + SHIFT, z), jnp.where(near, high + SHIFT, w)
    gap = jnp.where(near, low, z) * jnp.expm1(jnp.where(near, r, log_ratio))
    direct = stirling_remainder(end) - stirling_remainder(start) - gap * stirling_slope(start)
    return direct + jnp.where(near, steps, 0.0)


def _log_ratio_of_sums(a: Array, b: Array, to_a: Array, to_b: Array) -> Array:
    """log (α eˢ + β eᵗ)/(α + β) with s = `to_a` and t = `to_b`."""
    near = (jnp.abs(to_a) < 0.5) & (jnp.abs(to_b) < 0.5)
    s, t = jnp.where(near, to_a, 0.0), jnp.where(near, to_b, 0.0)
    close = jnp.log1p(jax.nn.sigmoid(a - b) * jnp.expm1(s) + jax.nn.sigmoid(b - a) * jnp.expm1(t))
    far = jnp.logaddexp(jax.nn.log_sigmoid(a - b) + to_a, jax.nn.log_sigmoid(b - a) + to_b)
    return jnp.where(near, close, far)


def _bregman(log_z: Array, log_ratio: Array) -> Array:
    """log Γ(w) − log Γ(z) − (w − z) ψ(z) ≥ 0 with log w/z = `log_ratio`."""
    return jnp.exp(log_z + log_ratio) * expm2(-log_ratio) + 0.5 * expm2(log_ratio) + _excess(log_z, log_ratio)


def _even(a: Array, b: Array, c: Array, d: Array) -> Array:
    """The divergence as m KL(γ/m ‖ α/n) and what is left of log Γ's."""
    to = c - a, d - b
    sums = jnp.logaddexp(a, b), _log_ratio_of_sums(a, b, *to)
    rest = (0.5 * expm2(r) + _excess(z, r) for z, r in ((a, to[0]), (b, to[1]), sums))
    coins = (jnp.exp(c) + jnp.exp(d)) * kl_coins(c - d, to[1] - to[0])
    return coins + sum(s * r for s, r in zip((1, 1, -1), rest, strict=True))


def _lopsided(a: Array, b: Array, c: Array, d: Array) -> Array:
    """The divergence for α ≪ β, α < 1, and γ ≪ ζ, where the terms of β, ζ and n, m nearly cancel.

    With z = β + tα, w = ζ + tγ it is α's own part and ∫₀¹ α ((w − z) ψ′(z) − ψ(w) + ψ(z)) − (γ − α)(ψ(w) − ψ(z)) dt,
    where ψ(w) − ψ(z) = Σ_k (w − z)/((z + k)(w + k)) and the other difference Σ_k (w − z)²/((z + k)²(w + k)).
    """
    nodes, weights = np.polynomial.legendre.leggauss(3)
    t, steps = (1 + nodes[:, None]) / 2, np.arange(SHIFT + 1)
    alpha, beta, gamma, zeta = (jnp.exp(x)[..., None, None] for x in (a, b, c, d))
    rise = beta * jnp.expm1(d - b)[..., None, None] + t * alpha * jnp.expm1(c - a)[..., None, None]
    z, w = beta + t * alpha, zeta + t * gamma
    # Of γ near α the last term is small, and the integral of positive terms; far from it α (ψ(w) − ψ(z)) drops out.
    near = (jnp.abs(c - a) < 1)[..., None, None]
    to_w, share = rise / (w + steps), jnp.where(near, alpha * jnp.expm1(c - a)[..., None, None], gamma)
    curve, slope = alpha / (z + steps) * (rise / (z + steps)) * jnp.where(near, to_w, 1), share / (z + steps) * to_w
    terms = (curve - slope)[..., :-1].sum(-1)
    # The sums from k = 8 on by Euler and Maclaurin: the integral, half the first term, a twelfth of its slope.
    curve, slope, share, near, alpha, rise = (x[..., -1] for x in (curve, slope, share, near, alpha, rise))
    z, w = (x[..., 0] + SHIFT for x in (z, w))
    # By the quotient above 1, so that nothing is lost where the other is nearly 0.
    ratio = jnp.where(rise < 0, -jnp.log1p(-rise / w), jnp.log1p(jnp.maximum(rise, 0) / z))
    terms += alpha * jnp.where(near, expm2(ratio), rise / z) + curve * (0.5 + (2 / z + jnp.where(near, 1 / w, 0)) / 12)
    terms -= share * ratio + slope * (0.5 + (1 / z + 1 / w) / 12)
    return _bregman(a, c - a) + (terms * (weights / 2)).sum(-1)


def _kl(params: Params, others: Params) -> Array:
    """log B(γ, ζ)/B(α, β) + (α − γ) ψ(α) + (β − ζ) ψ(β) − (n − m) ψ(n)."""
    check_same_batch("kl", {"params": batch_shape(params), "others": batch_shape(others)})
    a, b, c, d = jnp.broadcast_arrays(*_logs(params), *_logs(others))
    swap = a > b
    a, b, c, d = (jnp.where(swap, *pair) for pair in ((b, a), (a, b), (d, c), (c, d)))
    return _divergence(a, b, c, d)


@jax.custom_jvp
def _divergence(a: Array, b: Array, c: Array, d: Array) -> Array:
    """The divergence from log α ≤ log β, log γ and log ζ."""
    lopsided = (a < 0) & (b - a > LOPSIDED) & (d - c > LOPSIDED)
    chosen = (jnp.where(lopsided, x, x0) for x, x0 in ((a, 0.0), (b, LOPSIDED), (c, 0.0), (d, LOPSIDED)))
    return jnp.where(lopsided, _lopsided(*chosen), _even(a, b, c, d))


@_divergence.defjvp
def _divergence_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """Derivatives in closed form: those of the terms of log Γ reach α⁻³, beyond float32."""
    (a, b, c, d), (da, db, dc, dd) = primals, tangents
    # Both of a pair at once: β has the slope of α with the roles changed.
    one, other, moves = jnp.stack([a, b]), jnp.stack([b, a]), jnp.stack([c - a, d - b])
    (to_a, to_b), (to_c, to_d) = (by(one, other, moves, moves[::-1]) for by in (_by_first, _by_second))
    return _divergence(a, b, c, d), to_a * da + to_b * db + to_c * dc + to_d * dd


def _by_first(a: Array, b: Array, s: Array, t: Array) -> Array:
    """The derivative by log α, α ((α − γ) ψ′(α) − (n − m) ψ′(n)), with s = log γ/α and t = log ζ/β.

    It is αβ/n (eᵗ − eˢ) − C (eˢ − 1) + D (eᵗ − 1) with the `_curvatures` C and D.
    """
    own, shared = _curvatures(a, b)
    # αβ/n eᵗ is below the larger of α and ζ. Of both terms the larger is taken out.
    larger = jnp.exp(a + jax.nn.log_sigmoid(b - a) + jnp.maximum(s, t)) * -jnp.expm1(-jnp.abs(t - s))
    return jnp.where(t > s, larger, -larger) - own * jnp.expm1(s) + shared * jnp.expm1(t)


def _by_second(a: Array, b: Array, s: Array, t: Array) -> Array:
    """The derivative by log γ, γ (ψ(γ) − ψ(α) − ψ(m) + ψ(n)) = γ log (γ/m)/(α/n) + F(γ, ζ) − eˢ F(α, β).

    F as in `_remainder`. For small s and t that difference is ∫₀¹ e^{(1 − u)s} (s C − t D) du, by the `_curvatures` at
    α e^{us} and β e^{ut}.
    """
    log_share = -_log_mean(jax.nn.log_sigmoid(a - b), jax.nn.log_sigmoid(b - a), t - s)
    nodes, weights = np.polynomial.legendre.leggauss(4)
    near = (jnp.abs(s) < 0.5) & (jnp.abs(t) < 0.5)
    small_s, small_t = (jnp.where(near, x, 0.0)[..., None] for x in (s, t))
    u = (1 + nodes) / 2
    own, shared = _curvatures(a[..., None] + u * small_s, b[..., None] + u * small_t)
    turns = (jnp.exp((1 - u) * small_s) * (small_s * own - small_t * shared) * (weights / 2)).sum(-1)
    far = _remainder(a + s, b + t) - jnp.exp(s) * _remainder(a, b)
    return jnp.exp(a + s) * log_share + jnp.where(near, turns, far)


def _curvatures(a: Array, b: Array) -> tuple[Array, Array]:
    """C = k(α) − p² k(n) ≥ 0 and D = pq k(n), with k(z) = z² ψ′(z) − z, p = α/n and q = β/n."""

    def slope(z: Array) -> Array:
        return z * jax.jvp(curvature, (z,), (jnp.ones_like(z),))[1]

    p, q, of_sum = jax.nn.sigmoid(a - b), jax.nn.sigmoid(b - a), curvature(jnp.exp(jnp.logaddexp(a, b)))
    return q * (1 + p) * of_sum - _over_sum(curvature, slope, a, b), p * q * of_sum


def _remainder(a: Array, b: Array) -> Array:
    """F(α, β) = l(α) − p l(n), with l(z) = z (ψ(z) − log z), whose z l′(z) is l(z) + k(z), and p = α/n."""

    def remainder(z: Array) -> Array:
        return z * stirling_slope(z) - 0.5

    def slope(z: Array) -> Array:
        return remainder(z) + curvature(z)

    of_sum = remainder(jnp.exp(jnp.logaddexp(a, b)))
    return jax.nn.sigmoid(b - a) * of_sum - _over_sum(remainder, slope, a, b)


def _over_sum(f: Callable[[Array], Array], slope: Callable[[Array], Array], a: Array, b: Array) -> Array:
    """f(α + β) − f(α); for a β that α nearly swallows from the `slope` z f′(z) between them."""
    alpha, ratio = jnp.exp(a), jnp.exp(jnp.minimum(b - a, 0))
    middle = alpha * (1 + ratio / 2)
    rise = ratio / (1 + ratio / 2) * slope(middle)
    return jnp.where(b - a < LITTLE, rise, f(jnp.exp(jnp.logaddexp(a, b))) - f(alpha))


def _log_mean(log_p: Array, log_q: Array, r: Array) -> Array:
    """log (p + q eʳ) with p + q = 1."""
    near = jnp.abs(r) < 0.5
    change = jnp.where(near, jnp.exp(log_q) * jnp.expm1(jnp.where(near, r, 0.0)), jnp.exp(log_q + r) - jnp.exp(log_q))
    small = jnp.abs(change) < 0.5
    return jnp.where(small, jnp.log1p(jnp.where(small, change, 0.0)), jnp.logaddexp(log_p, log_q + r))


beta = Distribution(_log_prob, _sample, _entropy, _kl)
"""Density x^{α−1}(1 − x)^{β−1}/B(α, β) on [0, 1]: `log_alpha`, `log_beta`."""
