"""Masked dense network whose outputs see earlier inputs only (Germain et al. 2015; lecture 26, 28)."""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Real

from dlcore.nn import Activation, Call, Dense, compose, dense
from dlcore.nn.init import Initializer, he_normal, zeros
from dlcore.setting import whole
from dlcore.types import Input, Key, Model, Params, State


def degrees(size: int, width: int, *, lowest: int) -> Int[np.ndarray, " width"]:
    """How many of the inputs each of `width` hidden units may see, evenly from `lowest` to size − 1."""
    highest = size - 1
    return np.round(np.linspace(min(lowest, highest), highest, width)).astype(int)


def MaskedDense(
    inputs: Int[np.ndarray, " n"], outputs: Int[np.ndarray, " m"], *, kernel_init: Initializer = he_normal
) -> Model:
    """Dense layer in which output j, which may see the first `outputs[j]` inputs, is fed by unit i only where
    `inputs[i]` ≤ `outputs[j]`; the other weights stay 0."""
    mask = (inputs[:, None] <= outputs[None]).astype(np.float32)

    def init(key: Key, x: Input) -> tuple[Params, State]:
        if x.shape[-1] != len(inputs):
            raise ValueError(f"MaskedDense: made for {len(inputs)} inputs, got shape {x.shape}")
        return {"kernel": kernel_init(key, mask.shape), "bias": zeros(key, mask.shape[1:])}, {}

    def apply(
        params: Params, state: State, x: Real[Array, "b n"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b m"], State]:
        # Not a product with the mask: a weight that became infinite must not turn into NaN.
        return dense(x, jnp.where(mask > 0, params["kernel"], 0), params["bias"]), state

    return Model(init, apply, "masked_dense")


def MADE(
    size: int, widths: Sequence[int], outputs: int, *, activation: str = "relu", conditional: bool = False
) -> Model:
    """[b, size] to [b, outputs], `outputs` = n·size: entry k·size + i depends on the inputs before i only.

    The last layer starts at 0. With `conditional` it takes (x, condition), [b, c], which every output may see. Raises
    `ValueError` for a number of outputs that `size` does not divide.
    """
    if whole(outputs, "MADE: outputs") % whole(size, "MADE: size"):
        raise ValueError(f"MADE: {outputs} outputs for {size} inputs; use a multiple of {size}")
    widths = [whole(width, "MADE: a width") for width in widths]
    # Units that see no input carry what the condition says to the first output.
    seen = [np.arange(1, size + 1)] + [degrees(size, width, lowest=0 if conditional else 1) for width in widths]
    parts: dict[str, Model] = {}
    for i, (before, after) in enumerate(itertools.pairwise(seen)):
        parts |= {f"masked_{i}": MaskedDense(before, after), f"activation_{i}": Activation(activation)}
    head = MaskedDense(seen[-1], np.tile(np.arange(size), outputs // size), kernel_init=zeros)

    def forward(call: Call, x: Array, *condition: Array) -> Array:
        for i in range(len(widths)):
            x = call(f"masked_{i}", x)
            if i == 0 and conditional:
                x = x + call("condition", *condition)
            x = call(f"activation_{i}", x)
        return call("head", x)

    told = {"condition": Dense(widths[0], bias=False)} if conditional else {}
    return compose(forward, **parts, **told, head=head)._replace(kind="made")
