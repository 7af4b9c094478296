"""Autoregressive bijections: every coordinate moves given those before it (lecture 28; Papamakarios et al. 2017)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from dlcore.generative.flow.chain import Moved, Tap, Watched, checked_condition
from dlcore.generative.flow.transform import Transform
from dlcore.types import Bijector, Key, Model, Params


def Autoregressive(conditioner: Model, transform: Transform, *, conditional: bool = False) -> Bijector:
    """z_i = T(x_i; θ_i(x_1 … x_{i−1})) of points [b, d]: the Jacobian is triangular, log|det J| = Σ_i log T'.

    The conditioner, such as `dlcore.networks.made.MADE`, gives `transform.numbers`·d raw numbers, the first of all
    coordinates, then the second, and so on; those of coordinate i must not depend on x_i or later ones. With `conditional`
    it takes a condition [b, ...] as well. Forward is one pass (MAF); the inverse takes d passes, one after another. An
    inverse autoregressive flow (IAF, Kingma et al. 2016) is `invert` of this. Raises `ValueError` for inputs that are not
    points, a conditioner that does not fit, and a condition that is missing or superfluous.
    """

    def numbers(params: Params, x: Array, condition: tuple[Array, ...]) -> Array:
        out, _ = conditioner.apply(params, {}, x, *condition)
        want = (len(x), transform.numbers * x.shape[1])
        if out.shape != want:
            raise ValueError(f"Autoregressive: the conditioner gives shape {out.shape}; it must give {want}")
        return jnp.moveaxis(out.reshape(len(x), transform.numbers, -1), 1, -1)

    def check(x: Array, condition: tuple[Array, ...]) -> None:
        if x.ndim != 2:
            raise ValueError(f"Autoregressive: expected points [b, d], got shape {x.shape}; flatten them first")
        checked_condition("Autoregressive", conditional, x, condition)

    def init(key: Key, x: Array, *condition: Array) -> Params:
        check(x, condition)
        params, state = conditioner.init(key, x, *condition)
        if jax.tree.leaves(state):
            raise ValueError("Autoregressive: the conditioner has state (a batch norm?); a bijection must have none")
        return params

    def run(params: Params, x: Array, *condition: Array, tap: Tap) -> Moved:
        check(x, condition)
        z, log_slope = transform.forward(x, numbers(params, x, condition))
        tap("log_scale", log_slope)
        return z, log_slope.sum(-1)

    def inverse(params: Params, z: Array, *condition: Array) -> Moved:
        check(z, condition)

        def coordinate(carry: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
            # Coordinates from i on are still 0: nothing that is not known yet can overflow into what is.
            x, log_slope = carry
            found, slope = transform.inverse(z, numbers(params, x, condition))
            at = jnp.arange(z.shape[1]) == i
            return (jnp.where(at, found, x), jnp.where(at, slope, log_slope)), None

        start = jnp.zeros_like(z), jnp.zeros_like(z)
        (x, log_slope), _ = jax.lax.scan(coordinate, start, jnp.arange(z.shape[1]))
        return x, log_slope.sum(-1)

    return Bijector(init, Watched(run), inverse, "autoregressive", conditional)
