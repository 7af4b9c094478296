"""Layers without params."""

from collections.abc import Callable
from typing import Any

from dlcore.types import Key, Model, Params, State


def Function(function: Callable[..., Any], kind: str) -> Model:
    """The model without params and state that applies `function` to its inputs, in training as in inference."""

    def init(key: Key, *inputs: Any) -> tuple[Params, State]:
        return {}, {}

    def apply(
        params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
    ) -> tuple[Any, State]:
        return function(*inputs), state

    return Model(init, apply, kind)
