"""Densities on a grid, by the trapezoid rule, with named axes; some of them may be discrete (lecture 2.1–2.10)."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from dlcore.setting import traced
from dlcore.stats._check import check_mass, check_possible
from dlcore.stats._special import scaled, wide
from dlcore.stats.table import axis_numbers


class Density(NamedTuple):
    """p(a, b, …): densities at the points of a grid, one axis of `values` per variable.

    `points` holds per axis the increasing positions of its grid, or None where the variable is discrete: there `values`
    are masses. Units: 1 over those of each continuous variable.
    """

    values: Float[Array, "..."]
    points: tuple[Float[Array, " n"] | None, ...]
    axes: tuple[str, ...]


class GridPosterior(NamedTuple):
    """What Bayes' rule gives: the density p(θ|y) on the prior's grid, and p(y)."""

    density: Density
    evidence: Float[Array, ""]


def trapezoid_weights(points: Num[ArrayLike, " n"]) -> Float[Array, " n"]:
    """w with Σ w_i f(x_i) = Σ ½(f(x_i) + f(x_{i+1}))(x_{i+1} − x_i), for increasing points at any spacing."""
    half = jnp.diff(wide(points)) / 2
    return jnp.pad(half, (0, 1)) + jnp.pad(half, (1, 0))


def make_density(
    values: Num[ArrayLike, "..."],
    points: tuple[Num[ArrayLike, " n"] | None, ...],
    axes: tuple[str, ...],
    *,
    tolerance: float = 1e-3,
) -> Density:
    """A density whose integral (over discrete axes: sum) is 1 up to `tolerance`, the error that the grid may make.

    Raises `ValueError` for a negative or infinite density, another integral, points that do not increase or do not fit
    the shape, and names that repeat. Under jit the values are not looked at.
    """
    _check_grid(values, points, axes)
    check_mass(values, "density")
    density = Density(wide(values), tuple(grid if grid is None else wide(grid) for grid in points), tuple(axes))
    total = integral(density)
    if not traced(total, tolerance) and abs(float(total) - 1) > tolerance:
        raise ValueError(f"density must integrate to 1, got {float(total):g}; widen or refine the grid, or normalize")
    return density


def _check_grid(values: ArrayLike, points: tuple[ArrayLike | None, ...], axes: tuple[str, ...]) -> None:
    shape = jnp.shape(values)
    if not len(axes) == len(points) == len(shape) or len(set(axes)) != len(axes):
        raise ValueError(f"make_density: values {shape} need as many different names and grids as axes, got {axes}")
    for name, grid, size in zip(axes, points, shape, strict=True):
        if grid is not None and (jnp.shape(grid) != (size,) or size < 2):
            raise ValueError(f"make_density: axis {name} of values {shape} has points of shape {jnp.shape(grid)}")
        if grid is not None and not traced(grid) and not (np.diff(np.asarray(grid, np.float64)) > 0).all():
            raise ValueError(f"make_density: the points of {name} must increase")


def marginalize(density: Density, *names: str) -> Density:
    """p(rest) = ∫ p d(names): the trapezoid rule over continuous axes, the sum over discrete ones.

    Raises `ValueError` for an unknown name.
    """
    numbers = axis_numbers(density.axes, names)
    values = wide(density.values)
    for number in sorted(numbers, reverse=True):
        grid = density.points[number]
        weights = 1.0 if grid is None else jnp.expand_dims(trapezoid_weights(grid), _beside(number, values.ndim))
        # Not an inner product, which loses digits on a long axis.
        values = (values * weights).sum(number)
    kept = [i for i in range(len(density.axes)) if i not in numbers]
    return Density(values, tuple(density.points[i] for i in kept), tuple(density.axes[i] for i in kept))


def integral(density: Density) -> Float[Array, ""]:
    """∫ p over all axes."""
    return marginalize(density, *density.axes).values


def normalize(
    values: Num[ArrayLike, "..."], points: tuple[Num[ArrayLike, " n"] | None, ...], axes: tuple[str, ...]
) -> Density:
    """The density proportional to `values` on the grid. Raises what `make_density` does, and for an integral of 0."""
    _check_grid(values, points, axes)
    check_mass(values, "density")
    relative, _ = scaled(wide(values))
    total = integral(Density(relative, tuple(points), tuple(axes)))
    check_possible(total, "values without mass")
    return make_density(relative / total, points, axes)


def condition(density: Density, **values: Any) -> Density:
    """p(rest | a = x, …) = p(rest, a = x, …)/p(a = x, …).

    On a continuous axis the density at x is interpolated linearly between its two neighbours on the grid; on a discrete
    one the value is a place. Raises `ValueError` for an unknown name, a value outside the grid (a traced one counts as
    the grid's end), or one of density 0.
    """
    found = density
    for name, value in values.items():
        found = _slice(found, axis_numbers(found.axes, (name,))[0], value)
    evidence = integral(found)
    check_possible(evidence, ", ".join(f"{name} = {value}" for name, value in values.items()))
    return found._replace(values=found.values / evidence)


def bayes(prior: Density, likelihood: Num[ArrayLike, "..."]) -> GridPosterior:
    """p(θ|y) = p(y|θ) p(θ)/p(y) with p(y) = ∫ p(y|θ) p(θ) dθ; the likelihood of the seen y is given on the grid.

    Raises `ValueError` for another shape, a negative likelihood, or evidence 0 (not looked at under jit).
    """
    if jnp.shape(likelihood) != prior.values.shape:
        raise ValueError(f"bayes: likelihood has shape {jnp.shape(likelihood)}, the prior {prior.values.shape}")
    check_mass(likelihood, "likelihood")
    relative, largest = scaled(wide(likelihood))
    joint = prior._replace(values=relative * prior.values)
    evidence = integral(joint)
    check_possible(evidence, "what was seen")
    return GridPosterior(joint._replace(values=joint.values / evidence), evidence * largest)


def _beside(number: int, ndim: int) -> tuple[int, ...]:
    return tuple(i for i in range(ndim) if i != number)


def _slice(density: Density, number: int, value: Any) -> Density:
    """The values at one place of an axis, which goes."""
    grid, size = density.points[number], density.values.shape[number]
    if not traced(value, grid):
        low, high = (0, size - 1) if grid is None else np.asarray(grid)[[0, -1]].tolist()
        if not low <= float(value) <= high or (grid is None and float(value) != int(value)):
            raise ValueError(f"condition: {density.axes[number]}={value} must be a place between {low} and {high}")
    if grid is None:
        values = jnp.take(density.values, jnp.asarray(value, jnp.int32), axis=number)
    else:
        grid = wide(grid)
        left = jnp.clip(jnp.searchsorted(grid, value, side="right") - 1, 0, size - 2)
        share = jnp.clip((value - grid[left]) / (grid[left + 1] - grid[left]), 0, 1)
        values = sum(w * jnp.take(density.values, left + i, axis=number) for i, w in enumerate((1 - share, share)))
    return Density(values, *(t[:number] + t[number + 1 :] for t in (density.points, density.axes)))
