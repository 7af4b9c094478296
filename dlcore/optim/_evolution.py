"""A genetic algorithm on real vectors: selection, crossover, mutation (lecture 4.3.3)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.operands import equal_shapes
from dlcore.optim._minimize import Function, Iterate, Method, finite_or_worst, state
from dlcore.setting import Number, number, whole
from dlcore.types import Key


def select(key: Key, values: Float[Array, " m"], count: int, *, rivals: int = 3) -> Array:
    """Tournaments: `count` indices, each the least value's among `rivals` drawn at random; NaN loses."""
    drawn = jnp.floor(jax.random.uniform(key, (count, rivals)) * len(values)).astype(jnp.int32)
    return jnp.take_along_axis(drawn, finite_or_worst(values)[drawn].argmin(-1, keepdims=True), -1)[:, 0]


def crossover(
    key: Key, a: Float[Array, "m n"], b: Float[Array, "m n"], *, reach: Number = 0.25, exchange: Number = 0.5
) -> Float[Array, "m n"]:
    """Children of parents a and b, coordinate by coordinate.

    With probability `exchange` a child takes each coordinate from either parent; else it lies between them, or
    beyond by `reach` of their distance: intermediate recombination, which scales with the population's own spread
    (Mühlenbein & Schlierkamp-Voosen 1993, eq. 4). Raises `ValueError` for parents of different shapes.
    """
    equal_shapes("crossover", a=a, b=b)
    which, along, take = jax.random.uniform(key, (3, *a.shape), a.dtype)
    between = a + (along * (1 + 2 * reach) - reach) * (b - a)
    return jnp.where(which[:, :1] < exchange, jnp.where(take < 0.5, a, b), between)


def mutate(
    key: Key, x: Float[Array, "m n"], *, rate: Number, scale: Number, octaves: Number = 16.0
) -> Float[Array, "m n"]:
    """Adds ± scale · 2^(−`octaves` u), u uniform on [0, 1], to each coordinate with probability `rate`.

    As many mutations are large as are small, on a scale of logarithms (Mühlenbein & Schlierkamp-Voosen 1993, eq. 3).
    """
    where, sign, size = jax.random.uniform(key, (3, *x.shape), x.dtype)
    change = scale * jnp.exp2(-octaves * size) * jnp.where(sign < 0.5, -1, 1)
    return jnp.where(where < rate, x + change, x)


def genetic(scale: Number, *, population: int = 100, elite: int = 2, rivals: int = 3) -> Method:
    """Each generation keeps its `elite` and breeds the rest: selection, crossover, mutation of one in n coordinates.

    It starts as N(x0, scale²I); mutations are up to `scale` large, however close the population has gathered. Points
    where f is not finite rank last. `step_size` is the norm of the population's deviations. Raises `ValueError` without
    a key or with an elite that fills the population.
    """
    number(scale, "genetic: scale", "(0, ∞)")
    whole(rivals, "genetic: rivals")
    if not whole(elite, "genetic: elite") < whole(population, "genetic: population"):
        raise ValueError(f"genetic: an elite of {elite} leaves nothing to breed in a population of {population}")

    def generation(x: Array, values: Array, evaluations: Array | int) -> Iterate:
        best = values.argmin()
        size = jnp.linalg.norm(x.std(0))
        return state(x[best], values[best], step_size=size, evaluations=evaluations, memory=(x, values))

    def init(f: Function, x0: Array, key: Key | None) -> Iterate:
        if key is None:
            raise ValueError("genetic draws numbers; pass key=jax.random.key(seed)")
        noise = scale * jax.random.normal(key, (population, x0.size), x0.dtype)
        # x0 itself is one of the first generation.
        x = x0 + noise.at[0].set(0)
        values = jax.vmap(f)(x)
        first = generation(x, finite_or_worst(values), population)
        # What f is at x0 must not be hidden by the others.
        return first._replace(value=jnp.where(jnp.isfinite(values[0]), first.value, values[0]))

    def step(f: Function, now: Iterate, key: Key | None) -> Iterate:
        x, values = now.memory
        keys, bred = jax.random.split(key, 3), population - elite
        parents = x[select(keys[0], values, 2 * bred, rivals=rivals)]
        children = crossover(keys[1], parents[:bred], parents[bred:])
        children = mutate(keys[2], children, rate=1 / now.x.size, scale=scale)
        best = jax.lax.top_k(-values, elite)[1]
        fitness = finite_or_worst(jax.vmap(f)(children))
        x, values = jnp.concatenate([x[best], children]), jnp.concatenate([values[best], fitness])
        return generation(x, values, now.evaluations + bred)

    return Method(init, step)
