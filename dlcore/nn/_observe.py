"""A model that hands out what its hidden layers put out, for penalties on activities (lecture 10.13)."""

from typing import Any

from jaxtyping import Array

from dlcore.nn._intercept import tapped
from dlcore.types import Key, Model, Params, State


def observe(model: Model, *paths: str) -> Model:
    """The composed model whose apply returns ((outputs, {path: output of that part}), state); params are the same.

    Paths are those of `dlcore.nn.activations`, such as "activation_0" or "block1/conv". Raises `ValueError`
    for a path that the model does not have, and for a model without parts.
    """
    if not paths:
        raise ValueError("observe: name the parts whose outputs are wanted, for example 'activation_0'")

    def apply(
        params: Params, state: State, *inputs: Any, train: bool = False, key: Key | None = None
    ) -> tuple[tuple[Any, dict[str, Array]], State]:
        every: dict[str, Any] = {}

        def record(path: str, h: Any) -> Any:
            every[path] = h
            return h

        outputs, new = tapped(model, record, params, state, *inputs, train=train, key=key)
        missing = [path for path in paths if path not in every]
        if missing:
            raise ValueError(f"observe: the model has no part {missing[0]!r}, but {sorted(every)}")
        return (outputs, {path: every[path] for path in paths}), new

    return Model(model.init, apply, "observe")
