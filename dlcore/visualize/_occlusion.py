"""Attributions by covering parts of an image: a sliding window, and random masks (lecture 17).

Maps are [b, h, w]; all channels of a pixel are covered together.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dlcore.setting import Number, number, whole
from dlcore.types import Key, Model, Params, State
from dlcore.visualize._score import Score, checked, like, logit
from dlcore.visualize._variations import all_scores, in_blocks


def occlusion(
    model: Model,
    params: Params,
    state: State,
    x: Float[Array, "b h w c"],
    target: Any,
    *,
    window: int,
    stride: int = 1,
    fill: Number | Float[Array, "..."] = 0.0,
    block: int = 64,
    score: Score = logit,
) -> Float[Array, "b h w"]:
    """How much the score drops when a pixel is covered: the mean over all windows that cover it (Zeiler & Fergus 2014).

    Windows of `window`² pixels, filled with `fill` (a number or images, in units of x), lie `stride` apart from the
    first pixel on; the last ones are cut off at the border. At most `block` images are evaluated at once. Raises
    `ValueError` unless 1 ≤ stride ≤ window ≤ the sides.
    """
    checked("occlusion", x, target)
    sizes = (whole(size, f"occlusion: {name}") for size, name in ((window, "window"), (stride, "stride")))
    cover = Windows(_sides("occlusion", x), *sizes)
    at = {"fill": like("occlusion: fill", fill, x)}
    scores = all_scores(model, params, state, x, target, at, cover.count, Covered(cover), block=block, score=score)
    uncovered = all_scores(model, params, state, x, target, {}, 1, _same, block=block, score=score)
    drops, ones = uncovered - scores, jnp.ones((cover.count, 1), scores.dtype)
    return _mapped(cover, at, drops, block, covered=True) / _mapped(cover, at, ones, block, covered=True)


def rise(
    model: Model,
    params: Params,
    state: State,
    x: Float[Array, "b h w c"],
    target: Any,
    *,
    key: Key,
    masks: int = 2000,
    grid: int = 7,
    fraction: float = 0.5,
    fill: Number | Float[Array, "..."] = 0.0,
    block: int = 64,
    score: Score = logit,
) -> Float[Array, "b h w"]:
    """Σ_n score(x ⊙ M_n) M_n / (N p): the mean score where a pixel is seen, by random masks (Petsiuk et al. 2018).

    A mask is a grid of `grid`² cells, seen with probability p = `fraction`, enlarged smoothly and moved at random, see
    `random_mask`; mask n is drawn from the key folded with n, and is the same for all images. What is not seen is
    `fill`. Raises `ValueError` unless 0 < p < 1 and 1 ≤ grid ≤ the sides.
    """
    checked("rise", x, target)
    masks = whole(masks, "rise: masks")
    cells = Cells(_sides("rise", x), whole(grid, "rise: grid"), number(fraction, "rise: fraction", "(0, 1)"))
    at = {"fill": like("rise: fill", fill, x), "key": key}
    scores = all_scores(model, params, state, x, target, at, masks, Covered(cells), block=block, score=score)
    return _mapped(cells, at, scores, block, covered=False) / (masks * fraction)


def random_mask(key: Key, sides: tuple[int, int], grid: int, fraction: float) -> Float[Array, "h w"]:
    """One mask in [0, 1]: cells that are seen with probability `fraction`, enlarged by linear interpolation.

    It is larger than the image by one cell, and cut out at a random place of it.
    """
    bits, moves = jax.random.split(key)
    seen = jax.random.bernoulli(bits, fraction, (grid, grid)).astype(jnp.float32)
    cell = tuple(-(-side // grid) for side in sides)
    large = jax.image.resize(seen, tuple((grid + 1) * size for size in cell), "linear")
    return jax.lax.dynamic_slice(large, jax.random.randint(moves, (2,), 0, jnp.array(cell)), sides)


@dataclass(frozen=True)
class Windows:
    """Masks of which number n covers the n-th window, row by row."""

    sides: tuple[int, int]
    window: int
    stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window <= min(self.sides):
            raise ValueError(
                f"occlusion: expected 1 ≤ stride ≤ window ≤ {min(self.sides)}, the shorter side, got "
                f"stride={self.stride} and window={self.window}"
            )

    @property
    def steps(self) -> tuple[int, int]:
        """Windows along either side."""
        return tuple(-(-(side - self.window) // self.stride) + 1 for side in self.sides)

    @property
    def count(self) -> int:
        """All windows."""
        return self.steps[0] * self.steps[1]

    def seen(self, at: Any, number: Int[Array, ""]) -> Array:
        """0 inside of the window, 1 elsewhere."""
        firsts = (number // self.steps[1] * self.stride, number % self.steps[1] * self.stride)
        pairs = zip(self.sides, firsts, strict=True)
        rows, columns = (
            (jnp.arange(side) >= first) & (jnp.arange(side) < first + self.window) for side, first in pairs
        )
        return 1.0 - (rows[:, None] & columns)


@dataclass(frozen=True)
class Cells:
    """Masks of which number n is the n-th random one."""

    sides: tuple[int, int]
    grid: int
    fraction: float

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1 or not 1 <= self.grid <= min(self.sides):
            raise ValueError(
                f"rise: expected 0 < fraction < 1 and 1 ≤ grid ≤ {min(self.sides)}, the shorter side, got "
                f"fraction={self.fraction} and grid={self.grid}"
            )

    def seen(self, at: Any, number: Int[Array, ""]) -> Array:
        """See `random_mask`."""
        return random_mask(jax.random.fold_in(at["key"], number), self.sides, self.grid, self.fraction)


Mask = Windows | Cells
"""`seen(at, n)` is how much mask n leaves of each pixel [h, w], in [0, 1]."""


@dataclass(frozen=True)
class Covered:
    """A variation of images: what a mask leaves of them, and `fill` elsewhere."""

    mask: Mask

    def __call__(self, at: Any, x: Array, number: Array) -> Array:
        seen = self.mask.seen(at, number)[..., None].astype(x.dtype)
        return x * seen + at["fill"] * (1 - seen)


def _same(at: Any, x: Array, number: Array) -> Array:
    return x


def _sides(function: str, x: Array) -> tuple[int, int]:
    if x.ndim != 4:
        raise ValueError(f"{function}: expected images [b, h, w, c], got {x.shape}")
    return x.shape[1:3]


def _mapped(mask: Mask, at: Any, values: Float[Array, "n b"], block: int, *, covered: bool) -> Float[Array, "b h w"]:
    """Σ_n v_n M_n, or with `covered` Σ_n v_n (1 − M_n), a block of masks at a time."""
    total = jnp.zeros((values.shape[1], *mask.sides), values.dtype)
    for numbers, counted in in_blocks(len(values), 1, block):
        total += _part(mask, at, values[numbers] * counted[:, None], numbers, covered=covered)
    return total


@functools.partial(jax.jit, static_argnames=("mask", "covered"))
def _part(mask: Mask, at: Any, values: Array, numbers: Array, *, covered: bool) -> Array:
    seen = jax.vmap(lambda number: mask.seen(at, number))(numbers)
    weights = (1 - seen if covered else seen).astype(values.dtype)
    return jnp.einsum("nb,nhw->bhw", values, weights, precision="highest")
