"""Groups that act on images and sets, and what it is to be equivariant or invariant (lecture 13)."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Action: TypeAlias = Callable[[Array], Array]
"""One element of a group as it moves a batch: [b, …] to the same shape."""


def reflections() -> dict[str, Action]:
    """The identity and the mirror image (left to right) of images [b, h, w, c]."""
    return {"identity": lambda x: x, "mirror": lambda x: x[:, :, ::-1]}


def rotations() -> dict[str, Action]:
    """Turns of square images [b, n, n, c] by 0, 90, 180 and 270 degrees."""
    return {f"turn_{90 * i}": lambda x, i=i: dihedral_action(x, i) for i in range(4)}


def dihedral() -> dict[str, Action]:
    """All eight symmetries of the square: `rotations`, and those of the mirror image."""
    names = [("turn" if i < 4 else "mirror_turn", i) for i in range(8)]
    return {f"{name}_{90 * (i % 4)}": lambda x, i=i: dihedral_action(x, i) for name, i in names}


def dihedral_action(x: Float[Array, "..."], element: int, axes: tuple[int, int] = (1, 2)) -> Float[Array, "..."]:
    """Element i of the dihedral group: mirror the second of `axes` if i ≥ 4, then turn by 90 · (i mod 4) degrees.

    Raises `ValueError` unless both axes have the same length.
    """
    height, width = (x.shape[axis] for axis in axes)
    if height != width:
        raise ValueError(f"dihedral_action: only squares turn onto themselves, got {height}×{width}; crop or pad x")
    return jnp.rot90(jnp.flip(x, axes[1]) if element >= 4 else x, element % 4, axes)


def translations(height: int, width: int) -> dict[str, Action]:
    """Periodic shifts of images [b, height, width, c], by every number of rows and columns."""
    places = [(i, j) for i in range(height) for j in range(width)]
    return {f"shift_{i}_{j}": lambda x, by=(i, j): jnp.roll(x, by, (1, 2)) for i, j in places}


def permutations(orders: Sequence[Sequence[int]]) -> dict[str, Action]:
    """The given orders of the elements of sets [b, n, …]. Raises `ValueError` for what is not a permutation."""
    for order in orders:
        if sorted(order) != list(range(len(order))):
            raise ValueError(f"permutations: {tuple(order)} is not an order of 0 … {len(order) - 1}")
    return {"order_" + "_".join(map(str, order)): lambda x, order=order: x[:, np.array(order)] for order in orders}


def multiplication_table(group: Mapping[str, Action], x: Float[Array, "b ..."]) -> np.ndarray:
    """[i, j] the number of the element that does what j and then i do to `x`; x must be moved by every element.

    Raises `ValueError` when no element or several of them do: then it is not a group, or x is too symmetric.
    """
    moved = [np.asarray(act(x)) for act in group.values()]
    table = np.zeros((len(moved), len(moved)), int)
    for i, act in enumerate(group.values()):
        for j, first in enumerate(moved):
            both = np.asarray(act(jnp.asarray(first)))
            same = [k for k, other in enumerate(moved) if np.array_equal(both, other)]
            if len(same) != 1:
                names = list(group)
                raise ValueError(f"{names[j]} and then {names[i]} is what {len(same)} elements do, not exactly one")
            table[i, j] = same[0]
    return table


def equivariance_error(
    function: Action, x: Float[Array, "b ..."], group: Mapping[str, Action], outputs: Mapping[str, Action]
) -> float:
    """max_g ‖f(g x) − g f(x)‖∞ / ‖f(x)‖∞, where `outputs` holds how the same elements move outputs.

    Raises `ValueError` when the two do not name the same elements, or f(x) is 0.
    """
    if group.keys() != outputs.keys():
        raise ValueError("equivariance_error: group and outputs must name the same elements")
    y = function(x)
    size = float(jnp.abs(y).max())
    if not size > 0:
        raise ValueError(f"equivariance_error: the largest output is {size}; any error is lost in it")
    return max(float(jnp.abs(function(act(x)) - outputs[name](y)).max()) for name, act in group.items()) / size


def invariance_error(function: Action, x: Float[Array, "b ..."], group: Mapping[str, Action]) -> float:
    """max_g ‖f(g x) − f(x)‖∞ / ‖f(x)‖∞."""
    return equivariance_error(function, x, group, dict.fromkeys(group, lambda y: y))


def average_over(function: Action, group: Mapping[str, Action]) -> Action:
    """x ↦ (1/|G|) Σ_g f(g x), invariant for any f."""
    return lambda x: sum(function(act(x)) for act in group.values()) / len(group)
