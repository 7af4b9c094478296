"""Joint probabilities of discrete variables as a table with named axes (lecture 2.1–2.10)."""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Num

from dlcore.setting import traced
from dlcore.stats._check import check_mass, check_pmf, check_possible
from dlcore.stats._special import scaled, wide


class Table(NamedTuple):
    """p(a, b, …): one axis of `probabilities` per variable, in the order of the names in `axes`."""

    probabilities: Float[Array, "..."]
    axes: tuple[str, ...]


class Posterior(NamedTuple):
    """What Bayes' rule gives: p(θ|y) as a table over θ, and p(y)."""

    table: Table
    evidence: Float[Array, ""]


def make_table(probabilities: Num[ArrayLike, "..."], axes: tuple[str, ...]) -> Table:
    """A joint probability mass function, of floats or of integers such as a table of one certain outcome.

    Raises `ValueError` for negative mass, a sum other than 1, names that repeat or are not one per axis. Under jit the
    values are not looked at.
    """
    if len(axes) != jnp.ndim(probabilities) or len(set(axes)) != len(axes):
        raise ValueError(f"make_table: {jnp.ndim(probabilities)} axes need as many different names, got {axes}")
    check_pmf(probabilities, "probabilities")
    return Table(wide(probabilities), tuple(axes))


def axis_numbers(axes: tuple[str, ...], names: tuple[str, ...]) -> tuple[int, ...]:
    """Where the names stand among the axes. Raises `ValueError` for one that is missing or repeated."""
    missing = [name for name in names if name not in axes]
    if missing or len(set(names)) != len(names):
        raise ValueError(f"no axis {missing[0]!r} in {axes}" if missing else f"an axis is named twice in {names}")
    return tuple(axes.index(name) for name in names)


def marginalize(table: Table, *names: str) -> Table:
    """p(rest) = Σ over the named axes of p. Raises `ValueError` for an unknown name."""
    summed = axis_numbers(table.axes, names)
    return Table(wide(table.probabilities).sum(summed), tuple(a for a in table.axes if a not in names))


def marginal(table: Table, *names: str) -> Table:
    """p(names): all other axes summed out; the axes stay in the table's order."""
    axis_numbers(table.axes, names)
    return marginalize(table, *(a for a in table.axes if a not in names))


def condition(table: Table, **values: Any) -> Table:
    """p(rest | a = i, b = j, …) = p(rest, a = i, …)/p(a = i, …), the values being places on their axes.

    Raises `ValueError` for an unknown name, a place outside its axis, or values of probability 0 (not looked at
    under jit, where they give NaN).
    """
    for name, number in zip(values, axis_numbers(table.axes, tuple(values)), strict=True):
        if not traced(values[name]) and np.asarray(values[name]) not in range(table.probabilities.shape[number]):
            raise ValueError(f"condition: {name}={values[name]} is outside 0 … {table.probabilities.shape[number] - 1}")
    joint = wide(table.probabilities)[tuple(values.get(a, slice(None)) for a in table.axes)]
    evidence = joint.sum()
    check_possible(evidence, ", ".join(f"{name} = {value}" for name, value in values.items()))
    return Table(joint / evidence, tuple(a for a in table.axes if a not in values))


def independence_gap(table: Table) -> Float[Array, ""]:
    """max |p(a, b, …) − p(a) p(b) …| over the table: 0 exactly when the variables are independent."""
    n = len(table.axes)
    marginals = (
        marginal(table, name).probabilities.reshape([-1 if i == j else 1 for j in range(n)])
        for i, name in enumerate(table.axes)
    )
    return jnp.abs(table.probabilities - math.prod(marginals, start=jnp.ones(()))).max()


def is_independent(table: Table, tolerance: float = 1e-6) -> bool:
    """Whether no entry is further than `tolerance` from the product of the marginals."""
    return float(independence_gap(table)) <= tolerance


def bayes(prior: Table, likelihood: Num[ArrayLike, "..."]) -> Posterior:
    """p(θ|y) = p(y|θ) p(θ)/p(y) with p(y) = Σ_θ p(y|θ) p(θ); the likelihood of the seen y has the prior's shape.

    Raises `ValueError` for another shape, a negative likelihood, or evidence 0 (not looked at under jit).
    """
    if jnp.shape(likelihood) != prior.probabilities.shape:
        raise ValueError(f"bayes: likelihood has shape {jnp.shape(likelihood)}, the prior {prior.probabilities.shape}")
    check_mass(likelihood, "likelihood")
    relative, largest = scaled(wide(likelihood))
    joint = relative * prior.probabilities
    evidence = joint.sum()
    check_possible(evidence, "what was seen")
    return Posterior(Table(joint / evidence, prior.axes), evidence * largest)
