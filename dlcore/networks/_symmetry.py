"""Symmetries of the parameters of an MLP, and what linear layers amount to (lecture 8.4, 8.6).

Functions take params with branches `dense_0`, `dense_1`, …, as those of `dlcore.networks.MLP`; hidden layer i is
the output of `dense_i`.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from dlcore.precision import matmul
from dlcore.types import Params


def permute_units(params: Params, layer: int, order: Sequence[int]) -> Params:
    """Hidden units of `layer` in another order: W_i → W_i P, b_i → b_i P, W_{i+1} → Pᵀ W_{i+1}.

    The function of the network is the same for any activation. Raises `ValueError` unless `order` is a permutation.
    """
    here, after = _two_layers(params, layer)
    units = here["kernel"].shape[1]
    if sorted(order) != list(range(units)):
        raise ValueError(f"order must be a permutation of 0 to {units - 1}, got {tuple(order)}")
    index = jnp.array(order)
    changed = {name: leaf[..., index] for name, leaf in here.items()}
    return {**params, f"dense_{layer}": changed, f"dense_{layer + 1}": {**after, "kernel": after["kernel"][index]}}


def flip_units(params: Params, layer: int, signs: Sequence[int]) -> Params:
    """Hidden units of `layer` with their signs changed: what goes in and what comes out times ±1.

    The function is the same for an odd activation, φ(−x) = −φ(x), such as tanh and hard tanh. Raises `ValueError`
    unless there is a sign 1 or −1 for every unit.
    """
    here, after = _two_layers(params, layer)
    units = here["kernel"].shape[1]
    if len(signs) != units or any(sign not in (1, -1) for sign in signs):
        raise ValueError(f"signs must be 1 or −1 for each of {units} units, got {tuple(signs)}")
    factor = jnp.array(signs, here["kernel"].dtype)
    changed = {name: leaf * factor for name, leaf in here.items()}
    kernel = after["kernel"] * factor[:, None]
    return {**params, f"dense_{layer}": changed, f"dense_{layer + 1}": {**after, "kernel": kernel}}


def symmetries(params: Params, layer: int, *, odd: bool = True) -> Iterator[Params]:
    """All equivalent params that reordering, and with `odd` flipping, the units of one hidden layer gives."""
    units = _two_layers(params, layer)[0]["kernel"].shape[1]
    for signs in itertools.product((1, -1), repeat=units) if odd else [(1,) * units]:
        flipped = flip_units(params, layer, signs)
        for order in itertools.permutations(range(units)):
            yield permute_units(flipped, layer, order)


def count_symmetries(widths: Sequence[int], *, odd: bool = True) -> int:
    """Π_l 2^{M_l} · M_l! over the hidden widths, without the powers of 2 unless the activation is odd.

    So many points of parameter space, in general different ones, are the same function (Bishop 2006, section 5.1.1).
    """
    if any(width < 1 for width in widths):
        raise ValueError(f"widths must be at least 1, got {tuple(widths)}")
    return math.prod((2**width if odd else 1) * math.factorial(width) for width in widths)


def fold_linear(params: Params) -> dict[str, Float[Array, "..."]]:
    """One layer equal to all with linear activations: W = W_0 W_1 ⋯, b = (b_0 W_1 + b_1) W_2 + ⋯ (lecture 8.4)."""
    names = sorted((name for name in params if name.startswith("dense_")), key=lambda name: int(name[6:]))
    if not names:
        raise ValueError(f"params have no branch dense_0, dense_1, …; they have {sorted(params)}")
    kernel = _dense(params, names[0])["kernel"]
    bias = params[names[0]].get("bias", jnp.zeros(kernel.shape[1], kernel.dtype))
    for name in names[1:]:
        after = _dense(params, name)
        kernel, bias = (matmul(x, after["kernel"]) for x in (kernel, bias))
        bias = bias + after.get("bias", 0)
    return {"kernel": kernel, "bias": bias}


def _two_layers(params: Params, layer: int) -> tuple[Params, Params]:
    names = f"dense_{layer}", f"dense_{layer + 1}"
    if any(name not in params for name in names):
        raise ValueError(f"layer {layer} is no hidden layer: {' and '.join(names)} must be in {sorted(params)}")
    return _dense(params, names[0]), _dense(params, names[1])


def _dense(params: Params, name: str) -> Params:
    """The branch of a dense layer. Raises `ValueError` for one whose kernel is no matrix, such as a stack of them."""
    if (shape := params[name]["kernel"].shape)[2:] or len(shape) < 2:
        raise ValueError(
            f"{name}/kernel must be a matrix [inputs, outputs], got shape {shape}; pass one network's params"
        )
    return params[name]
