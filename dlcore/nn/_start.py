"""A layer that starts at values other than its own."""

from dlcore.nn.init import Initializer
from dlcore.types import Input, Key, Model, Params, State


def starting_at(layer: Model, **initializers: Initializer) -> Model:
    """`layer` with the params named drawn anew: `starting_at(BatchNorm(), scale=zeros)` starts at y = 0.

    A residual block that ends in that layer starts as the identity (Goyal et al. 2017, 5.1). Raises `ValueError` at
    init for a name that the layer has no param of.
    """

    def init(key: Key, *inputs: Input) -> tuple[Params, State]:
        params, state = layer.init(key, *inputs)
        if unknown := set(initializers) - set(params):
            raise ValueError(f"starting_at: the layer has params {sorted(params)}, not {sorted(unknown)}")
        return {**params, **{name: start(key, params[name].shape) for name, start in initializers.items()}}, state

    return layer._replace(init=init)
