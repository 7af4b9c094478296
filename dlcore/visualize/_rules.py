"""Other backward passes through every non-linearity: guided backpropagation and the deconvnet (lecture 17).

A rule `(x, y) -> y` is an identity on what an activation made, y, of x, with a backward pass of its own; it is a
module-level function, so that equal models are equal and do not retrace. It stands behind each activation: every part
of that kind, however often it is called, and what forward functions and Flax modules call by themselves, if it has a
name (`dlcore.visualize._raw`). Gates, softmax, pools and norms keep their gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.nn import Graph, Intercepted, intercepted
from dlcore.types import Key, Model, Params, State
from dlcore.visualize._raw import MARK, with_rule
from dlcore.visualize._saliency import gradient
from dlcore.visualize._score import Score, logit

Rule: TypeAlias = Callable[[Array, Array], Array]

ORDINARY = frozenset((
    "dense", "conv", "block_conv", "conv_transpose", "embedding", "group_lift", "group_conv", "group_pool",
    "batch_norm", "layer_norm", "group_norm", "instance_norm", "layer_scale", "position_bias", "softmax",
    "log_softmax", "glu", "gate", "max_pool", "max_pool_ceil", "avg_pool", "global_avg_pool",
    "global_max_pool", "adaptive_avg_pool", "adaptive_max_pool", "flatten", "reshape", "depth_to_space",
    "dropout", "stochastic_depth", "noise", "identity", "subsample", "dot_product_attention"
))  # fmt: skip
"""Kinds of parts with no activation inside: they keep their gradient, and what they compute is not looked at."""


def guided(x: Array, y: Array) -> Array:
    """y; its backward pass is that of the activation on the positive part of what comes down, f′(x) max(g, 0)."""
    return _positive(y)


def deconvolution(x: Array, y: Array) -> Array:
    """y; its backward pass is max(g, 0), wherever the activation was off (for any activation, as for the ReLU).

    Raises `ValueError` for an activation that changes the shape.
    """
    if x.shape != y.shape:
        raise ValueError(f"deconvolution: an activation makes {y.shape} of {x.shape}; it must keep the shape")
    return _passed(x, jax.lax.stop_gradient(y))


@jax.custom_vjp
def _positive(y: Array) -> Array:
    return y


_positive.defvjp(lambda y: (y, None), lambda _, g: (jnp.maximum(g, 0),))


@jax.custom_vjp
def _passed(x: Array, y: Array) -> Array:
    return y


_passed.defvjp(lambda x, y: (y, x), lambda x, g: (jnp.maximum(g, 0).astype(x.dtype), jnp.zeros_like(g)))


def ruled(model: Model, rule: Rule) -> Model:
    """`model` with `rule` behind each of its activations; outputs, params and state are those of the model.

    Models made of the same model and rule are equal. In the forward pass nothing changes. Raises `ValueError` when it
    is applied for a non-linearity that has no name: an element-wise operation such as `jnp.maximum(x, 0)` outside of
    parts. It is never passed over.
    """
    return model._replace(apply=Ruled(model, rule))


@dataclass(frozen=True)
class Ruled:
    """The `apply` of a model with a rule."""

    model: Model
    rule: Rule

    def __call__(
        self, params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
    ) -> tuple[Any, State]:
        marked = intercepted(_composed(self.model), _Parts(self.rule))
        forward = lambda *inputs: marked.apply(params, state, *inputs, train=train, key=key)  # noqa: E731
        return with_rule(forward, self.rule)(*inputs)


@dataclass(frozen=True)
class _Parts:
    """The rule at the parts; what they compute is marked as dealt with."""

    rule: Rule

    def __call__(self, path: str, part: Model, inputs: tuple[Any, ...], proceed: Callable[..., Any]) -> Any:
        if part.kind != "activation" and (part.kind not in ORDINARY or _is_composed(part)):
            return proceed(*inputs)
        with jax.named_scope(MARK):
            outputs = proceed(*inputs)
        return self.rule(inputs[0], outputs) if part.kind == "activation" else outputs


def _is_composed(model: Model) -> bool:
    return isinstance(model.apply, Graph | Intercepted)


def _composed(model: Model) -> Model:
    """The model, or, if it has no parts, one of which it is the only part, with the same params and state."""
    if _is_composed(model):
        return model
    only = lambda tree, name: tree  # noqa: E731
    graph = Graph(lambda call, *inputs: call("model", *inputs), {"model": model}, only, lambda trees: trees["model"])
    return model._replace(apply=graph)


def guided_backpropagation(
    model: Model, params: Params, state: State, x: Float[Array, "b *s"], target: Any, *, score: Score = logit
) -> Float[Array, "b *s"]:
    """∂ score / ∂ x where only positive gradients pass an activation (Springenberg et al. 2015), with its sign.

    Arguments as in `dlcore.visualize.gradient`, errors as in `ruled`.
    """
    return gradient(ruled(model, guided), params, state, x, target, score=score)


def deconvnet(
    model: Model, params: Params, state: State, x: Float[Array, "b *s"], target: Any, *, score: Score = logit
) -> Float[Array, "b *s"]:
    """The score sent back with max(·, 0) at every activation (Zeiler & Fergus 2014); maxima return to where they were.

    Arguments as in `dlcore.visualize.gradient`, errors as in `ruled`.
    """
    return gradient(ruled(model, deconvolution), params, state, x, target, score=score)
