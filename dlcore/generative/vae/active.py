"""Which latent dimensions say anything about the image (lecture 24.3; Burda et al. 2016, section 5)."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.generative.check import like_examples
from dlcore.precision import highest


class Activity(NamedTuple):
    """Sums over images of the codes that stand for them, of their squares, and of ones; they add up over batches."""

    mean: Float[Array, " d"]
    square: Float[Array, " d"]
    count: Float[Array, ""]


@highest
def activity(mean: Float[Array, "b d"], where: Array) -> Activity:
    """Sums of E[z|x] over images that `where` [b] marks; others may be NaN. Raises `ValueError` for another shape."""
    if jnp.ndim(mean) != 2:
        raise ValueError(f"activity: mean must be [b, d], got shape {jnp.shape(mean)}")
    like_examples("activity", "where", where, mean)
    mean = jnp.where(where[:, None], mean, 0.0)
    weight = where.astype(jnp.float32)
    return Activity(weight @ mean, weight @ jnp.square(mean), weight.sum())


def active_units(sums: Activity, threshold: float = 0.01) -> Array:
    """How many latent dimensions have Var_x(E_q[z]) above the threshold (Burda et al. 2016, section 5)."""
    return jnp.sum(variances(sums) > threshold)


def variances(sums: Activity) -> Float[Array, " d"]:
    """Var_x(E_q[z]) of every latent dimension."""
    return sums.square / sums.count - jnp.square(sums.mean / sums.count)
