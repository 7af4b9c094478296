"""Class activation maps: which places of a layer speak for a class (lecture 17).

Of the outputs A [b, *space, c] of the part at `path` and the gradients G = ∂ score / ∂ A; maps are [b, *space] and not
negative. `path` is as in `dlcore.visualize.feature_maps`; the last layer that has places tells most.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.lookup import check_name
from dlcore.nn import tapped
from dlcore.types import Model, Params, State
from dlcore.visualize._features import paths
from dlcore.visualize._rules import guided_backpropagation
from dlcore.visualize._score import Score, checked, logit


def grad_cam(
    model: Model, params: Params, state: State, x: Float[Array, "b *s"], target: Any, path: str, *, score: Score = logit
) -> Float[Array, "b *p"]:
    """max(0, Σ_k w_k A_k) with w_k the mean of G_k over all places (Selvaraju et al. 2017).

    Raises `ValueError` for a path that there is not, and for a part whose outputs have no places.
    """
    outputs, slopes = activation_and_gradient(model, params, state, x, target, path, score=score)
    weights = slopes.mean(axis=tuple(range(1, slopes.ndim - 1)), keepdims=True)
    return jax.nn.relu((weights * outputs).sum(-1))


def hires_cam(
    model: Model, params: Params, state: State, x: Float[Array, "b *s"], target: Any, path: str, *, score: Score = logit
) -> Float[Array, "b *p"]:
    """max(0, Σ_k G_k ⊙ A_k): the share of each place in a score that is linear in A (Draelos & Carin 2020)."""
    outputs, slopes = activation_and_gradient(model, params, state, x, target, path, score=score)
    return jax.nn.relu((slopes * outputs).sum(-1))


def layer_cam(
    model: Model, params: Params, state: State, x: Float[Array, "b *s"], target: Any, path: str, *, score: Score = logit
) -> Float[Array, "b *p"]:
    """max(0, Σ_k max(0, G_k) ⊙ A_k), sharp in early layers as well (Jiang et al. 2021)."""
    outputs, slopes = activation_and_gradient(model, params, state, x, target, path, score=score)
    return jax.nn.relu((jax.nn.relu(slopes) * outputs).sum(-1))


def guided_grad_cam(
    model: Model,
    params: Params,
    state: State,
    x: Float[Array, "b h w c"],
    target: Any,
    path: str,
    *,
    method: str = "linear",
    score: Score = logit,
) -> Float[Array, "b h w c"]:
    """Guided backpropagation times the Grad-CAM map, enlarged to the image (Selvaraju et al. 2017)."""
    where = enlarged(grad_cam(model, params, state, x, target, path, score=score), x.shape[1:3], method)
    return where[..., None] * guided_backpropagation(model, params, state, x, target, score=score)


def enlarged(maps: Float[Array, "b h w"], sides: tuple[int, int], method: str = "linear") -> Float[Array, "b hs ws"]:
    """Maps at the size of the images; `method` is "linear" or "nearest"."""
    return jax.image.resize(maps, (len(maps), *sides), method)


def activation_and_gradient(
    model: Model, params: Params, state: State, x: Float[Array, "b *s"], target: Any, path: str, *, score: Score = logit
) -> tuple[Float[Array, "b *p c"], Float[Array, "b *p c"]]:
    """A and ∂ score / ∂ A at `path`, both [b, *space, c].

    Raises `ValueError`, naming the nearest, for a path that there is not, and for outputs that are not [b, *space, c].
    """
    checked("activation_and_gradient", x, target)
    return _both(model, params, state, x, target, path=path, score=score)


@functools.partial(jax.jit, static_argnames=("model", "path", "score"))
def _both(
    model: Model, params: Params, state: State, x: Array, target: Any, *, path: str, score: Score
) -> tuple[Array, Array]:
    shapes = paths(model, params, state, x)
    check_name("part", path, shapes)
    if len(shapes[path]) < 3:
        raise ValueError(f"part {path!r} gives {shapes[path]}, which has no places; take one that gives [b, *space, c]")

    def total(moved: Array) -> tuple[Array, Array]:
        kept: dict[str, Array] = {}

        def tap(name: str, h: Any) -> Any:
            return kept.setdefault(name, h + moved) if name == path else h

        outputs, _ = tapped(model, tap, params, state, x)
        return score(outputs, target).sum(), kept[path]

    (_, outputs), slopes = jax.value_and_grad(total, has_aux=True)(jnp.zeros(shapes[path], x.dtype))
    return outputs, slopes
