"""How well a map tells what a network's answer rests on (lecture 17).

Completeness, infidelity, deletion and insertion ask the network itself; randomised weights ask whether the map depends
on what was learned at all.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dlcore.operands import equal_shapes, shape_of
from dlcore.precision import matmul
from dlcore.setting import Number, number, whole
from dlcore.tree import Pattern, merge, partition
from dlcore.types import Key, Model, Params, State
from dlcore.visualize._score import Score, checked, like, logit
from dlcore.visualize._variations import all_scores


def completeness_error(
    model: Model,
    params: Params,
    state: State,
    x: Float[Array, "b *s"],
    target: Any,
    maps: Float[Array, "..."],
    *,
    baseline: Number | Float[Array, "..."] = 0.0,
    score: Score = logit,
) -> Float[Array, " b"]:
    """|Σ map − (score(x) − score(x′))| / |score(x) − score(x′)| of each image, x′ the baseline; 0 is complete."""
    checked("completeness_error", x, target)
    equal_shapes("completeness_error", x=x, maps=maps)
    at = {"start": like("completeness_error: baseline", baseline, x)}
    start, end = all_scores(model, params, state, x, target, at, 2, _ends, block=2 * len(x), score=score)
    return jnp.abs(maps.reshape(len(x), -1).sum(1) - (end - start)) / jnp.abs(end - start)


def _ends(at: Any, x: Array, number: Array) -> Array:
    return jnp.where(number == 0, at["start"], x)


def infidelity(
    model: Model,
    params: Params,
    state: State,
    x: Float[Array, "b *s"],
    target: Any,
    maps: Float[Array, "..."],
    *,
    key: Key,
    std: Number,
    samples: int = 64,
    block: int = 64,
    score: Score = logit,
) -> Float[Array, " b"]:
    """E[(⟨I, map⟩ − (score(x) − score(x − I)))²] with I = σ ε, ε ~ N(0, I) (Yeh et al. 2019); 0 for a linear score.

    Sample n is drawn from the key folded with n, and is the same for all images; `std` is σ in units of x.
    """
    checked("infidelity", x, target)
    samples = whole(samples, "infidelity: samples")
    number(std, "infidelity: std", "[0, ∞)")
    equal_shapes("infidelity", x=x, maps=maps)
    at = {"key": key, "std": jnp.asarray(std, x.dtype)}
    scores = all_scores(model, params, state, x, target, at, samples + 1, _disturbed, block=block, score=score)
    noise = lambda n: _noise(at, x, n).ravel()  # noqa: E731
    expected = jax.lax.map(lambda n: matmul(maps.reshape(len(x), -1), noise(n)), jnp.arange(1, samples + 1))
    return jnp.square(expected - (scores[0] - scores[1:])).mean(0)


def _noise(at: Any, x: Array, number: Array) -> Array:
    return at["std"] * jax.random.normal(jax.random.fold_in(at["key"], number), x.shape[1:], x.dtype)


def _disturbed(at: Any, x: Array, number: Array) -> Array:
    return jnp.where(number == 0, x, x - _noise(at, x, number))


def deletion(
    model: Model,
    params: Params,
    state: State,
    x: Float[Array, "b h w c"],
    target: Any,
    maps: Float[Array, "..."],
    *,
    steps: int = 16,
    fill: Number | Float[Array, "..."] = 0.0,
    block: int = 64,
    score: Score = logit,
) -> Float[Array, "b n"]:
    """Scores while pixels are replaced by `fill`, the highest of the map first: 0, 1/steps, …, all of them.

    A good map makes the score fall early. Of equal pixels the first goes first. Petsiuk et al. 2018, who take the
    `probability`; `area` is the number that is compared.
    """
    return _curve("deletion", _deleted, model, params, state, x, target, maps, steps, fill, block, score)


def insertion(
    model: Model,
    params: Params,
    state: State,
    x: Float[Array, "b h w c"],
    target: Any,
    maps: Float[Array, "..."],
    *,
    steps: int = 16,
    fill: Number | Float[Array, "..."] = 0.0,
    block: int = 64,
    score: Score = logit,
) -> Float[Array, "b n"]:
    """Scores while pixels come back into an image of `fill`; arguments as in `deletion`. A good map raises it early."""
    return _curve("insertion", _inserted, model, params, state, x, target, maps, steps, fill, block, score)


def area(curve: Float[Array, "b n"]) -> Float[Array, " b"]:
    """The area below a curve over [0, 1] by trapezoids.

    >>> area(jnp.array([[1.0, 0.5, 0.0]]))
    Array([0.5], dtype=float32)
    """
    return ((curve[:, :-1] + curve[:, 1:]) / 2).mean(1)


def _curve(
    name: str,
    point: Callable[[Any, Array, Array], Array],
    model: Model,
    params: Params,
    state: State,
    x: Array,
    target: Any,
    maps: Array,
    steps: int,
    fill: Any,
    block: int,
    score: Score,
) -> Array:
    checked(name, x, target)
    steps = whole(steps, f"{name}: steps")
    if shape_of(maps) != x.shape[:3]:
        raise ValueError(f"{name}: maps have shape {shape_of(maps)}, expected {x.shape[:3]}, one number per pixel")
    order = jnp.argsort(-maps.reshape(len(x), -1), axis=1, stable=True)
    place = jnp.argsort(order, axis=1).reshape(*x.shape[:3], 1)
    cuts = jnp.asarray(np.round(np.linspace(0, place[0].size, steps + 1)), jnp.int32)
    at = {"place": place, "cuts": cuts, "fill": like(f"{name}: fill", fill, x)}
    return all_scores(model, params, state, x, target, at, steps + 1, point, block=block, score=score).T


def _deleted(at: Any, x: Array, number: Array) -> Array:
    return jnp.where(at["place"] < at["cuts"][number], at["fill"], x)


def _inserted(at: Any, x: Array, number: Array) -> Array:
    return jnp.where(at["place"] < at["cuts"][number], x, at["fill"])


def cascade(params: Params, fresh: Params, groups: Sequence[Pattern]) -> Iterator[Params]:
    """Params with the leaves of the first group, the first two, … taken from `fresh`: the top of a network first.

    Raises `ValueError` for a pattern that fits no leaf.
    """
    for group in groups:
        _, kept = partition(params, group)
        params = merge(kept, partition(fresh, group)[0])
        yield params


def randomization(
    attribute: Callable[[Params], Float[Array, "b ..."]], params: Params, fresh: Params, groups: Sequence[Pattern]
) -> Float[np.ndarray, "n b"]:
    """Rank correlations of each image's map with that of networks whose layers forget, see `cascade`.

    `attribute(params)` gives the maps. One that stays near 1 does not show what was learned (Adebayo et al. 2018).
    """
    maps = attribute(params)
    return np.stack(
        [np.asarray(rank_correlation(maps, attribute(changed))) for changed in cascade(params, fresh, groups)]
    )


@jax.jit
def rank_correlation(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, " b"]:
    """Spearman's correlation of each row: that of the ranks, equal values sharing the mean of theirs.

    NaN for a row without any differences. Raises `ValueError` unless the shapes are equal.

    >>> rank_correlation(jnp.array([[1.0, 2.0, 9.0]]), jnp.array([[3.0, 2.0, 1.0]])).round(3)
    Array([-1.], dtype=float32)
    """
    equal_shapes("rank_correlation", a=a, b=b)
    first, second = (jax.vmap(_ranks)(x.reshape(len(x), -1)) for x in (a, b))
    first, second = (x - x.mean(1, keepdims=True) for x in (first, second))
    sizes = jnp.sqrt(jnp.square(first).sum(1)) * jnp.sqrt(jnp.square(second).sum(1))
    return (first * second).sum(1) / sizes


def _ranks(x: Array) -> Array:
    ordered = jnp.sort(x)
    sides = (jnp.searchsorted(ordered, x, side=side).astype(jnp.float32) for side in ("left", "right"))
    return sum(sides) / 2
