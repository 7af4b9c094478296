"""Conditioners of flows: networks that keep the shape, end at zero and have no state (lecture 28.1).

A `conditional` one takes two inputs, (x, condition): a class or a code [b, c], or for images another image [b, h, w,
c].
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from dlcore.nn import Activation, Call, Conv, Dense, PositionBias, compose, residual, serial
from dlcore.nn.init import he_normal, lecun_normal, zeros
from dlcore.setting import whole
from dlcore.types import Model


def ConvConditioner(
    width: int, outputs: int, *, blocks: int = 1, activation: str = "relu", conditional: bool = False
) -> Model:
    """[b, h, w, c] to [b, h, w, outputs]: a 3×3 stem with a bias per position, residual 3×3 blocks, a 3×3 head at 0.

    Each block is h + conv(φ(h)). The outputs are 0 at the start. A condition [b, c] moves all positions alike behind
    the stem, an image goes into it beside x.
    """
    whole(blocks, "ConvConditioner: blocks", least=0)
    parts = {"stem": Conv(width, 3, bias=False, kernel_init=he_normal), "position": PositionBias()}
    for i in range(blocks):
        parts[f"block_{i}"] = residual(serial(Activation(activation), Conv(width, 3, kernel_init=he_normal)))
    parts |= {"activation": Activation(activation), "head": Conv(outputs, 3, kernel_init=zeros)}
    if not conditional:
        return serial(**parts)
    told = Conv(width, 3, bias=False, kernel_init=lecun_normal), Dense(width, bias=False)

    def forward(call: Call, x: Array, condition: Array) -> Array:
        image = condition.ndim == x.ndim
        added = call("seen", condition) if image else call("told", condition)[:, None, None]
        x = call("stem", x) + added
        for name in list(parts)[1:]:
            x = call(name, x)
        return x

    return compose(forward, **parts, seen=told[0], told=told[1])._replace(kind="serial")


def MLPConditioner(
    widths: Sequence[int], outputs: int, *, activation: str = "relu", conditional: bool = False
) -> Model:
    """[b, d] to [b, outputs]: dense layers with an activation, then one that starts at 0; a condition [b, c] stands
    beside x."""
    hidden = [layer for width in widths for layer in (Dense(width, kernel_init=he_normal), Activation(activation))]
    network = serial(*hidden, Dense(outputs, kernel_init=zeros))
    if not conditional:
        return network

    def forward(call: Call, x: Array, condition: Array) -> Array:
        return call("network", jnp.concatenate([x, condition], axis=-1))

    return compose(forward, network=network)
