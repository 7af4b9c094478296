"""Spectral normalisation: every weight matrix divided by its largest singular value (lecture 27.2)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn._graph import Graph
from dlcore.precision import matmul
from dlcore.setting import whole
from dlcore.tree import by_layer, named_leaves, stack_axes
from dlcore.types import Key, Model, Params, State

NORMALIZED = ("kernel", "embedding")
"""Names of the leaves that are matrices [..., inputs, outputs]."""
EPSILON = 1e-12
"""A matrix whose norm is not above this is not divided: its gain is below 1 anyway, and its gradient stays finite."""
STARTING_ITERATIONS = 10
TOLERANCE = 1e-6
"""Iteration until convergence ends when the norm grows by a smaller share, or after `MOST_ITERATIONS`."""
MOST_ITERATIONS = 100


def spectral_norm(
    kernel: Float[Array, "*window n m"], vector: Float[Array, " m"], iterations: int | None = 1
) -> tuple[Float[Array, ""], Float[Array, " m"]]:
    """σ(W) ≈ uᵀ W v of the kernel as a matrix W [window · n, m], and the new v, by power iteration from `vector`.

    One iteration is u ← W v/‖W v‖, v ← Wᵀ u/‖Wᵀ u‖; `None` iterates until σ stands still. No gradient passes through u
    and v, so that ∂σ/∂W = u vᵀ (Miyato et al. 2018, algorithm 1). The estimate never exceeds the largest singular
    value, whatever the length of `vector`. For W = 0 it is 0, with gradient 0, and v stays as it was.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    fixed, v = jax.lax.stop_gradient((matrix, vector))
    v = _unit(v.astype(jnp.promote_types(matrix.dtype, v.dtype)))
    if iterations is None:
        v = _converged(fixed, v)
    for _ in range(iterations or 0):
        v = _iterated(fixed, v)
    return matmul(_unit(matmul(fixed, v)), matmul(matrix, v)), v


def _iterated(matrix: Float[Array, "n m"], v: Float[Array, " m"]) -> Float[Array, " m"]:
    new = _unit(matmul(_unit(matmul(matrix, v)), matrix))
    return jnp.where((new == 0).all(), v, new)


@jax.jit
def _converged(matrix: Float[Array, "n m"], v: Float[Array, " m"]) -> Float[Array, " m"]:
    def size(v: Array) -> Array:
        u = matmul(matrix, v)
        return matmul(_unit(u), u)

    def grows(carry: tuple[Array, Array, Array, Array]) -> Array:
        _, now, before, count = carry
        return (now > before * (1 + TOLERANCE)) & (count < MOST_ITERATIONS)

    def step(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        v, before, _, count = carry
        v = _iterated(matrix, v)
        return v, size(v), before, count + 1

    return jax.lax.while_loop(grows, step, (v, size(v), -jnp.ones_like(size(v)), jnp.int32(0)))[0]


def _unit(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """x/‖x‖, also where squares would vanish; zeros stay."""
    largest = jnp.abs(x).max()
    x = x / jnp.where(largest > 0, largest, 1)
    return x / jnp.where(largest > 0, jnp.linalg.norm(x), 1)


def SpectralNorm(model: Model, *, iterations: int = 1) -> Model:
    """`model` with every kernel and embedding divided by its spectral norm: each such layer is then 1-Lipschitz.

    That holds for W as a matrix; a convolution's own norm may be larger by up to √window. Copies in a branch `stacked`
    are matrices of their own. The vectors v are `state`, by the path of their leaf; only training moves them, by
    `iterations` steps each. Without training the norm is iterated from there until it stands still, so that it is that
    of the params given, moving averages included, whose vectors are averages too. Kernels of norm 0 are not divided.
    Kind and paths of params and activations are those of `model`. Raises `ValueError` for fewer than one iteration, and
    at `init` for a model without weights.
    """
    iterations = whole(iterations, "SpectralNorm: iterations")
    forward = lambda call, *inputs: call("", *inputs)  # noqa: E731
    graph = _Spectral(
        forward, {"": model}, lambda tree, name: tree, lambda branches: branches[""], iterations=iterations
    )
    return Model(graph.init, graph, model.kind)


@dataclass(frozen=True, eq=False)
class _Spectral(Graph):
    iterations: int = 1

    def run(self, params: Params, state: State, *inputs: Any, train: bool = False, **options: Any) -> tuple[Any, State]:
        scaled, vectors = _normalized(params, state["vector"], self.iterations if train else None)
        given = state.get("model", {})
        out, inner = super().run(scaled, given, *inputs, train=train, **options)
        if not train and inner is given:
            return out, state
        return out, _state(vectors if train else state["vector"], inner)

    def init(self, key: Key, *inputs: Any) -> tuple[Params, State]:
        params, inner = super().init(key, *inputs)
        leaves = {path: leaf for path, leaf in named_leaves(params) if path.rsplit("/", 1)[-1] in NORMALIZED}
        if not leaves:
            raise ValueError(f"SpectralNorm: the model has no leaf called {' or '.join(NORMALIZED)} to normalise")
        starts = {path: _start(key, path, leaf) for path, leaf in leaves.items()}
        settle = jax.jit(lambda params, starts: _normalized(params, starts, STARTING_ITERATIONS)[1])
        return params, _state(settle(params, starts), inner)


def _start(key: Key, path: str, leaf: Array) -> Float[Array, "*copies m"]:
    shape = (*leaf.shape[: stack_axes(path)], leaf.shape[-1])
    return by_layer(_unit, path)(jax.random.normal(key, shape, jnp.promote_types(leaf.dtype, jnp.float32)))


def _state(vectors: State, inner: State) -> State:
    return {"vector": vectors} | ({"model": inner} if jax.tree.leaves(inner) else {})


def _normalized(params: Params, vectors: State, iterations: int | None) -> tuple[Params, State]:
    """The params with each leaf that has a vector divided by its norm, and the new vectors."""

    def divided(kernel: Array, vector: Array) -> tuple[Array, Array]:
        sigma, new = spectral_norm(kernel, vector, iterations)
        return (kernel / jnp.where(sigma > EPSILON, sigma, 1)).astype(kernel.dtype), new.astype(vector.dtype)

    new: dict[str, Array] = dict(vectors)
    leaves = []
    for path, leaf in named_leaves(params):
        if path in vectors:
            leaf, new[path] = by_layer(divided, path)(leaf, vectors[path])
        leaves.append(leaf)
    return jax.tree.unflatten(jax.tree.structure(params), leaves), new
