"""Flax modules as `Model`s, trained by the same engine as any other."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
from flax import nnx
from flax.errors import InvalidRngError

from dlcore.nn.graph import fold_name
from dlcore.types import Input, Key, Model, Params, State

MODES: dict[str, Callable[[bool], bool]] = {
    "train": lambda train: train,
    "training": lambda train: train,
    "deterministic": lambda train: not train,
    "use_running_average": lambda train: not train,
}
"""Arguments by which Linen modules are told whether they train."""


def from_linen(module: nn.Module, *, rngs: Sequence[str] = ("dropout",)) -> Model:
    """A Linen module: collection `params` becomes params, all others (`batch_stats`, ...) become state.

    The train flag is passed under whichever of `MODES` the module's call takes. `key` feeds the random streams `rngs`;
    training without one raises `ValueError` as soon as the module asks for randomness.
    """
    accepted = [name for name in inspect.signature(type(module).__call__).parameters if name in MODES]

    def modes(train: bool) -> dict[str, bool]:
        return {name: MODES[name](train) for name in accepted}

    def streams(key: Key | None) -> dict[str, Key]:
        return {} if key is None else {name: fold_name(key, name) for name in rngs}

    def init(key: Key, *inputs: Input) -> tuple[Params, State]:
        variables = module.lazy_init({"params": key, **streams(key)}, *map(_shape, inputs), **modes(False))
        return variables.get("params", {}), _without(variables, "params")

    def apply(
        params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
    ) -> tuple[Any, State]:
        variables = {"params": params, **state}
        if not train:
            return module.apply(variables, *inputs, **modes(False), rngs=streams(key)), state
        try:
            out, new = module.apply(variables, *inputs, **modes(True), rngs=streams(key), mutable=list(state))
        except InvalidRngError as error:
            raise ValueError(f"this Linen module needs a key to train ({error}); pass key=... to apply") from error
        return out, dict(new)

    return Model(init, apply, "from_linen")


def from_nnx(make: Callable[[nnx.Rngs], nnx.Module]) -> Model:
    """An NNX module given as a function of its random streams, e.g. `lambda rngs: Net(rngs=rngs)`.

    `nnx.Param` variables become params, others (`BatchStat`, ...) become state. Random streams are not kept: each
    call draws them from its `key`; training a module that has streams without a key raises `ValueError`.
    """
    abstract = nnx.eval_shape(lambda: make(nnx.Rngs(0)))
    stochastic = bool(jax.tree.leaves(nnx.state(abstract, nnx.RngState)))
    _graph, _, _, _ = nnx.split(abstract, nnx.Param, nnx.RngState, ...)

    def init(key: Key, *inputs: Input) -> tuple[Params, State]:
        _, params, _, state = nnx.split(make(nnx.Rngs(key)), nnx.Param, nnx.RngState, ...)
        return nnx.to_pure_dict(params), nnx.to_pure_dict(state)

    def apply(
        params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
    ) -> tuple[Any, State]:
        if train and stochastic and key is None:
            raise ValueError("this NNX module has random streams: train=True needs a key; pass key=... to apply")
        module = make(nnx.Rngs(jax.random.key(0) if key is None else key))
        nnx.update(module, {**params}, {**state})
        module.train() if train else module.eval()
        out = module(*inputs)
        _, _, _, new = nnx.split(module, nnx.Param, nnx.RngState, ...)
        return out, nnx.to_pure_dict(new) if train else state

    return Model(init, apply, "from_nnx")


def _shape(x: Input) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _without(variables: Any, name: str) -> dict[str, Any]:
    return {key: value for key, value in variables.items() if key != name}
