"""Muon: momentum whose matrices are made orthogonal, many of them at once (lecture 7)."""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from dlcore.operands import wide
from dlcore.optim.schedules import Schedule
from dlcore.optim.transforms import check_rates
from dlcore.setting import Number, number
from dlcore.tree import is_weight, path_of, stack_axes

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic that a step applies to all singular values: steep at 0, and near 1 only within about 0.3."""
STEPS = 5


class Moment(NamedTuple):
    """The count of steps, and the running mean of gradients."""

    step: Int[Array, ""]
    mean: Any


def orthogonalized(
    x: Float[Array, "*batch m n"], *, steps: int = STEPS, epsilon: Number = 1e-8
) -> Float[Array, "*batch m n"]:
    """U S' Vᵀ of matrices X = U S Vᵀ with singular values S' near 1, by the iteration of Newton and Schulz.

    X ← a X + (b XXᵀ + c (XXᵀ)²) X with `COEFFICIENTS`, from X/(‖X‖_F + ε); all matrices side by side in each product
    (Jordan et al. 2024; Bernstein & Newhouse 2024).
    """
    if x.shape[-2] > x.shape[-1]:
        return orthogonalized(x.mT, steps=steps, epsilon=epsilon).mT
    a, b, c = COEFFICIENTS
    # The norm in single precision: half precision has no room for its squares, nor for ε.
    full = wide(x)
    x = (full / (jnp.sqrt(jnp.square(full).sum((-2, -1), keepdims=True)) + epsilon)).astype(x.dtype)
    for _ in range(steps):
        square = _product(x, x.mT)
        x = a * x + _product(b * square + c * _product(square, square), x)
    return x


def _product(x: Array, y: Array) -> Array:
    """In the device's fast precision: the next step mends what it loses."""
    return jnp.matmul(x, y, precision="default")


def muon(
    rate: Number | Schedule,
    momentum: Number = 0.95,
    *,
    vector_rate: float = 1.0,
    weight_decay: Number = 0.0,
    b1: Number = 0.9,
    b2: Number = 0.999,
    epsilon: Number = 1e-8,
) -> optax.GradientTransformation:
    """Θ ← Θ − ε_k (√max(1, n/m) `orthogonalized`(M) + λ Θ) for matrices Θ [m, n], Adam with Nesterov's momentum for
    the rest.

    M = β m̂ + (1 − β) ĝ with the mean m of the gradients g, both free of their bias towards 0. Matrices are weights of
    two axes or more: kernels [*window, in, out] with m = window · in, n = out. Those of one shape are computed
    together. The rest moves at `vector_rate` times the rate. As `optax.contrib.muon`, which has one product for each
    matrix, and takes two axes only unless told otherwise.
    """

    check_rates("muon", rate, momentum=momentum, b1=b1, b2=b2)
    for setting, value in {"vector_rate": vector_rate, "weight_decay": weight_decay, "epsilon": epsilon}.items():
        number(value, f"muon: {setting}", "[0, ∞)")

    def vector(step: Any) -> Any:
        return vector_rate * (rate(step) if callable(rate) else rate)

    matrices = optax.chain(
        _orthogonal_momentum(momentum, epsilon),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(rate),
    )
    rest = optax.adam(vector, b1, b2, epsilon, nesterov=True)
    return optax.transforms.partition({"matrix": matrices, "rest": rest}, _labels)


def _labels(params: Any) -> Any:
    def label(path: Any, leaf: Array) -> str:
        name = path_of(path)
        return "matrix" if is_weight(name) and leaf.ndim - stack_axes(name) >= 2 else "rest"

    return jax.tree_util.tree_map_with_path(label, params)


def _orthogonal_momentum(beta: Number, epsilon: Number) -> optax.GradientTransformation:
    def init(params: Any) -> Moment:
        return Moment(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(grads: Any, state: Moment, params: Any = None) -> tuple[Any, Moment]:
        step = optax.safe_increment(state.step)
        mean = jax.tree.map(lambda m, g: beta * m + (1 - beta) * g, state.mean, grads)
        ahead, now = 1 - beta ** (step + 1), 1 - beta**step
        moved = jax.tree.map(lambda m, g: beta * m / ahead + (1 - beta) * g / now, mean, grads)
        return _together(moved, epsilon), Moment(step, mean)

    return optax.GradientTransformation(init, update)


def _together(tree: Any, epsilon: Number) -> Any:
    """The matrices of a tree made orthogonal and scaled, those of one shape in one computation."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(tree)
    flat = [_as_matrices(leaf, stack_axes(path_of(path))) for path, leaf in leaves]
    places: dict[tuple[int, ...], list[int]] = {}
    for place, matrix in enumerate(flat):
        places.setdefault(matrix.shape[1:], []).append(place)
    found: dict[int, Array] = {}
    for (m, n), alike in places.items():
        rows = jnp.concatenate([flat[place] for place in alike])
        scaled = math.sqrt(max(1, n / m)) * orthogonalized(rows, epsilon=epsilon)
        *ends, _ = itertools.accumulate(len(flat[place]) for place in alike)
        found |= zip(alike, jnp.split(scaled, ends), strict=True)
    return jax.tree.unflatten(structure, [found[i].reshape(leaf.shape) for i, (_, leaf) in enumerate(leaves)])


def _as_matrices(leaf: Array, copies: int) -> Array:
    """[copies · … , m, n] of a kernel [copies, *window, in, out]."""
    count = math.prod(leaf.shape[:copies])
    return leaf.reshape(count, -1, leaf.shape[-1])
