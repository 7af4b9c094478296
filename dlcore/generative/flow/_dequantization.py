"""Noise that makes grey levels continuous: uniform, or learned (lecture 28; Ho et al. 2019, Flow++).

For noise u in [0, 1)^D with density q(u|x), P(x) = L^−D ∫ p((x + u)/L) du gives by Jensen
log P(x) ≥ E_q[log p((x + u)/L) − log q(u|x)] − D log L, an equality where q is the density of u given x.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from dlcore.generative.check import like_examples
from dlcore.generative.flow._pixels import dequantize, discrete_nats
from dlcore.setting import whole
from dlcore.types import Bijector, Key, Params


class Dequantizer(NamedTuple):
    """`init(key, x) -> params`, and `draw(key, params, x) -> (u, log q(u|x) [b])` for grey levels x [b, ...]: u of that
    shape in [0, 1], and the log-density in nats."""

    init: Callable[..., Params]
    draw: Callable[..., tuple[Array, Float[Array, " b"]]]


def uniform() -> Dequantizer:
    """q = 1 (Theis et al. 2016)."""

    def draw(key: Key, params: Params, x: Integer[Array, "b ..."]) -> tuple[Array, Array]:
        return jax.random.uniform(key, x.shape), jnp.zeros(len(x))

    return Dequantizer(lambda key, x: {}, draw)


def variational(bijector: Bijector, levels: int) -> Dequantizer:
    """u = Φ(g⁻¹(ε; x)) with ε ~ N(0, I), Φ the normal distribution function and g the conditional `bijector`, told the
    pixels x/(L − 1) − ½ (Ho et al. 2019, section 3.1).

    With v = g⁻¹(ε): log q(u|x) = log N(ε) − log|det ∂v/∂ε| − log N(v), so that a g which starts as the identity
    starts as uniform noise. Raises `ValueError` for a bijector without a condition.
    """
    if not bijector.conditional:
        raise ValueError("variational: the bijector must be conditional: it is told the image that it makes noise for")

    def told(x: Array) -> Array:
        return x / (levels - 1) - 0.5

    def init(key: Key, x: Array) -> Params:
        return bijector.init(key, jax.random.normal(jax.random.fold_in(key, 0), x.shape), told(x))

    def draw(key: Key, params: Params, x: Integer[Array, "b ..."]) -> tuple[Array, Array]:
        noise = jax.random.normal(key, x.shape)
        v, log_det = bijector.inverse(params, noise, told(x))
        axes = tuple(range(1, x.ndim))
        log_q = 0.5 * (jnp.square(v) - jnp.square(noise)).sum(axes) - log_det
        return jax.scipy.special.ndtr(v), log_q

    return Dequantizer(init, draw)


def by_row(
    dequantizer: Dequantizer, keys: Key, params: Params, x: Integer[Array, "b ..."]
) -> tuple[Array, Float[Array, " b"]]:
    """`draw` with a key for every image: the noise of one does not depend on the batch that it came in."""

    def one(key: Key, x: Array) -> tuple[Array, Array]:
        u, log_q = dequantizer.draw(key, params, x[None])
        return u[0], log_q[0]

    return jax.vmap(one)(keys, x)


def bound(
    key: Key,
    dequantizer: Dequantizer,
    params: Params,
    log_density: Callable[[Array], Float[Array, " b"]],
    x: Integer[Array, "b ..."],
    levels: int,
    *,
    samples: int = 1,
) -> Float[Array, " b"]:
    """Upper bound of −log P(x) in nats of the discrete image from so many draws of noise per image, all with one key.

    −log (1/k) Σ_i p(y_i)/q(u_i|x) + D log L with y = (x + u)/L: k = 1 is the bound that is trained, more draws bring it
    nearer to −log P(x). `params` are the dequantizer's; `log_density(y)` is that of the model, [b] in nats. Raises
    `ValueError` for k < 1, and unless the density is one number per image.
    """
    samples = whole(samples, "bound: samples")

    def weight(i: Array) -> Array:
        u, log_q = dequantizer.draw(jax.random.fold_in(key, i), params, x)
        log_p = log_density(dequantize(x, u, levels))
        like_examples("bound", "log_density's result", log_p, x)
        return log_p - log_q

    found = jnp.stack([weight(jnp.int32(i)) for i in range(samples)])
    mean = jax.nn.logsumexp(found, axis=0) - jnp.log(float(samples))
    return discrete_nats(mean, x[0].size, levels)
