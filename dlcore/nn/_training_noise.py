"""Layers that draw at random in training and are the identity otherwise (lecture 11.5, 12.4)."""

from collections.abc import Callable

from jaxtyping import Array

from dlcore.setting import Number, known
from dlcore.types import Input, Key, Model, Params, State


def needs_key(name: str, key: Key | None) -> Key:
    """The key, or `ValueError` in the name of the layer that is to train without one."""
    if key is None:
        raise ValueError(f"{name}: train=True needs a key; pass key=jax.random.key(...) to apply")
    return key


def training_noise(name: str, kind: str, strength: Number, draw: Callable[[Array, Key], Array]) -> Model:
    """`draw(x, key)` in training, unless `strength` is known to be 0; the identity otherwise."""
    off = known(strength) == 0

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return {}, {}

    def apply(
        params: Params, state: State, x: Array, *, train: bool = False, key: Key | None = None
    ) -> tuple[Array, State]:
        return (x if off or not train else draw(x, needs_key(name, key))), state

    return Model(init, apply, kind)
