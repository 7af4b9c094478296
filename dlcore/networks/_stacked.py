"""Networks of sigmoid layers that are pretrained one by one (lecture 21.4)."""

from collections.abc import Mapping, Sequence

import jax
from jaxtyping import Array, Float

from dlcore.nn import Activation, Dense, serial
from dlcore.nn.init import glorot_uniform
from dlcore.types import Key, Model, Params


def sigmoid_uniform(key: Key, shape: Sequence[int]) -> Float[Array, "..."]:
    """Uniform with four times the bound of Glorot's, for sigmoid units, whose slope at 0 is ¼ (Glorot & Bengio 2010).

    The bound is 4 √(6/(fan_in + fan_out)).
    """
    return 4 * glorot_uniform(key, shape)


def SigmoidLayer(units: int) -> Model:
    """h = σ(x W + b), params `dense/kernel` and `dense/bias`: the encoder of one stage, and one layer of the stack."""
    return serial(dense=Dense(units, kernel_init=sigmoid_uniform), activation=Activation("sigmoid"))


def StackedClassifier(widths: Sequence[int], outputs: int) -> Model:
    """Sigmoid layers `layer_1`, `layer_2`, … and a linear `head`: [b, n] to logits [b, outputs]."""
    layers = {layer_name(i): SigmoidLayer(units) for i, units in enumerate(widths)}
    return serial(**layers, head=Dense(outputs))


def through(encoders: Sequence[Params], x: Float[Array, "b n"]) -> Float[Array, "b m"]:
    """The code of the last of these layers, each given the code of the one before."""
    for params in encoders:
        x = SigmoidLayer(params["dense"]["bias"].shape[0]).apply(params, {}, x)[0]
    return x


def layer_name(index: int) -> str:
    """The name of the layer with this index, from 0: `layer_1` is the first."""
    return f"layer_{index + 1}"


def unrolled(params: Params, encoders: Sequence[Params]) -> Params:
    """The params of a `StackedClassifier` whose first layers are these encoders, to the bit; the rest is as it was.

    Raises `ValueError` for encoders of other shapes, and for more of them than there are layers.
    """
    found: dict[str, Mapping] = dict(params)
    for i, encoder in enumerate(encoders):
        name = layer_name(i)
        shapes = [jax.tree.map(lambda leaf: tuple(leaf.shape), tree) for tree in (params.get(name), encoder)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"unrolled: encoder {i + 1} has {shapes[1]}, and {name} of the classifier {shapes[0]}")
        found[name] = encoder
    return found
