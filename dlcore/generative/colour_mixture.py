"""A mixture of logistics whose components are shared by the colours of a pixel (lecture 23, 26; PixelCNN++).

p(x) = Σ_m π_m Π_j P(x_j; μ_jm + Σ_{i<j} c_ijm x_i, s_jm) with x on [−1, 1] and P the logistic's mass of a grey level:
green is given red, blue is given both (Salimans et al. 2017, section 2.2).

**Layout** of the outputs [..., n] for m components and c colours, the one of PixelCNN++ for c = 3, where n = 10 m:
m logits; then for every colour in channel order m means, m log-scales, and ⌊c/2⌋ rows of m numbers whose tanh are
coefficients. All rows of coefficients in order belong to the pairs (1 given 0), (2 given 0), (2 given 1), (3 given 0)…;
an even c leaves its last c/2 rows unused.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Integer

from dlcore.operands import has_shape
from dlcore.stats import logistic_log_mass, mixture_mean, mixture_sample
from dlcore.types import Key

LOG_SCALE_RANGE = (-7.0, 5.0)
"""Range of the log-scale of a discretised logistic."""


class ColourMixture(NamedTuple):
    """The parameters of m components of a pixel with c colours."""

    logits: Float[Array, "*s m"]
    mean: Float[Array, "*s c m"]
    """On [−1, 1], where all colours before are 0."""
    log_scale: Float[Array, "*s c m"]
    coefficients: Float[Array, "*s p m"]
    """How far a mean follows an earlier colour, for the c (c − 1)/2 pairs in the order of the layout."""


def per_component(colours: int) -> int:
    """How many outputs a component has: 1 + c (2 + ⌊c/2⌋), 10 for three colours."""
    return 1 + colours * (2 + colours // 2)


def split(outputs: Float[Array, "*s n"], colours: int) -> ColourMixture:
    """The parameters in the layout of this file; log-scales are clipped to `LOG_SCALE_RANGE`.

    Raises `ValueError` unless n is a multiple of `per_component`.
    """
    size, each = outputs.shape[-1], per_component(colours)
    components, rest = divmod(size, each)
    if rest or not components:
        raise ValueError(f"colour_mixture: {size} outputs; {colours} colours need a multiple of {each}")
    logits, rows = outputs[..., :components], outputs[..., components:]
    rows = rows.reshape(*rows.shape[:-1], colours, 2 + colours // 2, components)
    coefficients = rows[..., 2:, :].reshape(*rows.shape[:-3], colours * (colours // 2), components)
    used = coefficients[..., : colours * (colours - 1) // 2, :]
    return ColourMixture(logits, rows[..., 0, :], jnp.clip(rows[..., 1, :], *LOG_SCALE_RANGE), jnp.tanh(used))


def log_mass(level: Integer[Array, "*s c"], mixture: ColourMixture, levels: int) -> Float[Array, "*s c"]:
    """log p(x_j | x_<j) of each colour in nats, whose sum over the colours is log p(x) of the pixel.

    The components weigh what they have explained so far: p(x_j | x_<j) = Σ_m w_jm P_jm with w_jm ∝ π_m Π_{i<j} P_im.
    Raises `ValueError` unless there is one level per colour.
    """
    _check("log_mass", mixture)
    has_shape("log_mass", "level", level, mixture.mean.shape[:-1], "one level for each colour of the mixture")
    colours = level.shape[-1]
    values = [_value(level[..., j, None], levels) for j in range(colours)]
    weights, found = mixture.logits, []
    for j in range(colours):
        mean, log_scale = _location(mixture, j, values), mixture.log_scale[..., j, :]
        masses = logistic_log_mass(jnp.broadcast_to(level[..., j, None], mean.shape), mean, log_scale, levels)
        found.append(jax.nn.logsumexp(jax.nn.log_softmax(weights) + masses, axis=-1))
        weights = weights + masses
    return jnp.stack(found, -1)


def sample(key: Key, mixture: ColourMixture, levels: int) -> Int[Array, "*s c"]:
    """Levels of all colours: a component, then each colour given the levels drawn before it."""
    _check("sample", mixture)
    chosen = jax.random.categorical(jax.random.fold_in(key, 0), mixture.logits)[..., None, None]
    means, log_scales, coefficients = (jnp.take_along_axis(array, chosen, axis=-1) for array in mixture[1:])
    one = ColourMixture(jnp.zeros_like(means[..., 0, :]), means, log_scales, coefficients)
    drawn, values = [], []
    for j in range(means.shape[-2]):
        here = jax.random.fold_in(key, 1 + j)
        drawn.append(mixture_sample(here, one.logits, _location(one, j, values), log_scales[..., j, :], levels))
        values.append(_value(drawn[-1][..., None], levels))
    return jnp.stack(drawn, -1)


def mean(mixture: ColourMixture, levels: int) -> Float[Array, "*s c"]:
    """E[level] of each colour, taking that of each component at its own means of the colours before.

    Exact for the first colour, and for all where the components lie inside the range: what is cut off at its ends bends
    the straight line by which a colour follows another.
    """
    _check("mean", mixture)
    weights, found, values = jax.nn.softmax(mixture.logits), [], []
    for j in range(mixture.mean.shape[-2]):
        # Components one by one: mixtures of one.
        location, log_scale = _location(mixture, j, values)[..., None], mixture.log_scale[..., j, :, None]
        levels_here = mixture_mean(jnp.zeros_like(location), location, log_scale, levels)
        found.append((weights * levels_here).sum(-1))
        values.append(_value(levels_here, levels))
    return jnp.stack(found, -1)


def _check(name: str, mixture: ColourMixture) -> None:
    """Raises `ValueError`, naming the shapes, unless all parts are of the same pixels and components."""
    *sites, colours, components = jnp.shape(mixture.mean) if jnp.ndim(mixture.mean) > 1 else (0, 0)
    wanted = {
        "logits": (*sites, components),
        "log_scale": (*sites, colours, components),
        "coefficients": (*sites, colours * (colours - 1) // 2, components),
    }
    for part, shape in wanted.items():
        has_shape(name, part, getattr(mixture, part), shape, f"for means of shape {jnp.shape(mixture.mean)}")


def _value(level: Array, levels: int) -> Array:
    return 2 * level / (levels - 1) - 1


def _location(mixture: ColourMixture, j: int, values: list[Array]) -> Float[Array, "*s m"]:
    """Means of colour j given the `values` of those before it."""
    first = j * (j - 1) // 2
    return mixture.mean[..., j, :] + sum(mixture.coefficients[..., first + i, :] * values[i] for i in range(j))
