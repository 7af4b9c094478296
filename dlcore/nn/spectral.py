"""Spectral normalisation: every weight matrix divided by its largest singular value (lecture 27.2)."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn.combine import Graph
from dlcore.types import Key, Model, Params, State

NORMALIZED = ("kernel", "embedding")
"""Names of the leaves that are matrices [..., inputs, outputs]."""
EPSILON = 1e-12
STARTING_ITERATIONS = 10


def spectral_norm(
    kernel: Float[Array, "*window n m"], vector: Float[Array, " m"], iterations: int = 1
) -> tuple[Float[Array, ""], Float[Array, " m"]]:
    """σ(W) ≈ uᵀ W v of the kernel as a matrix W [window · n, m], and the new v, by power iteration from `vector` = v.

    One iteration is u ← W v/‖W v‖, v ← Wᵀ u/‖Wᵀ u‖. No gradient passes through u and v, so that ∂σ/∂W = u vᵀ (Miyato et
    al. 2018, algorithm 1). The estimate never exceeds the largest singular value.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    fixed, v = jax.lax.stop_gradient(matrix), jax.lax.stop_gradient(vector)
    for _ in range(iterations):
        u = _unit(fixed @ v)
        v = _unit(u @ fixed)
    return _unit(fixed @ v) @ matrix @ v, v


def _unit(x: Float[Array, " n"]) -> Float[Array, " n"]:
    return x / jnp.maximum(jnp.linalg.norm(x), EPSILON)


def SpectralNorm(model: Model, *, iterations: int = 1) -> Model:
    """`model` with every kernel and embedding divided by its spectral norm: each such layer is then 1-Lipschitz.

    That holds for W as a matrix; a convolution's own norm may be larger by up to √window. The vectors v are `state`,
    by the path of their leaf; only training moves them, by `iterations` steps each. Paths of params and activations
    are those of `model`. Raises `ValueError` for fewer than one iteration, and at `init` for a model without weights.
    """
    if iterations < 1:
        raise ValueError(f"SpectralNorm: iterations must be at least 1, got {iterations}")
    forward = lambda call, *inputs: call("", *inputs)  # noqa: E731
    graph = _Spectral(
        forward, {"": model}, lambda tree, name: tree, lambda branches: branches[""], iterations=iterations
    )
    return Model(graph.init, graph)


@dataclass(frozen=True, eq=False)
class _Spectral(Graph):
    iterations: int = 1

    def run(self, params: Params, state: State, *inputs: Any, train: bool = False, **options: Any) -> tuple[Any, State]:
        scaled, vectors = _normalized(params, state["vector"], self.iterations if train else 0)
        out, inner = super().run(scaled, state.get("model", {}), *inputs, train=train, **options)
        return out, _state(vectors, inner) if train else state

    def init(self, key: Key, *inputs: Any) -> tuple[Params, State]:
        params, inner = super().init(key, *inputs)
        leaves = {path: leaf for path, leaf in _named(params) if path.rsplit("/", 1)[-1] in NORMALIZED}
        if not leaves:
            raise ValueError(f"SpectralNorm: the model has no leaf called {' or '.join(NORMALIZED)} to normalise")
        starts = {path: _unit(jax.random.normal(key, leaf.shape[-1:])) for path, leaf in leaves.items()}
        settle = jax.jit(lambda params, starts: _normalized(params, starts, STARTING_ITERATIONS)[1])
        return params, _state(settle(params, starts), inner)


def _state(vectors: State, inner: State) -> State:
    return {"vector": vectors} | ({"model": inner} if jax.tree.leaves(inner) else {})


def _named(params: Params) -> list[tuple[str, Array]]:
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _normalized(params: Params, vectors: State, iterations: int) -> tuple[Params, State]:
    """The params with each leaf that has a vector divided by its norm, and the new vectors."""
    new: dict[str, Array] = dict(vectors)
    leaves = []
    for path, leaf in _named(params):
        if path in vectors:
            sigma, new[path] = spectral_norm(leaf, vectors[path], iterations)
            leaf = leaf / jnp.maximum(sigma, EPSILON)
        leaves.append(leaf)
    return jax.tree.unflatten(jax.tree.structure(params), leaves), new
