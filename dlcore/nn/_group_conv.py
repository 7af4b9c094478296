"""Convolutions over turns and mirror images as well as places: p4 and p4m (lecture 13; Cohen & Welling 2016).

Their feature maps [b, n, n, g, c] have one map per element of the group. An element h moves them by moving every map
as an image and map number h⁻¹u to place u.
"""

from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from dlcore.nn._conv import conv
from dlcore.nn._dtypes import promoted, widely
from dlcore.nn._function import Function
from dlcore.nn._groups import Action, dihedral, dihedral_action, rotations
from dlcore.nn._pool import fold_max
from dlcore.nn._rows import add_bias
from dlcore.nn._window import Padding
from dlcore.nn.init import Initializer, lecun_normal, zeros
from dlcore.setting import Size, whole
from dlcore.types import Input, Key, Model, Params, State

SIZES = {"p4": 4, "p4m": 8}
"""Turns by 90 degrees; those and mirror images."""


def lift(
    x: Real[Array, "b n n c"], kernel: Real[Array, "w w c f"], *, group: str, padding: Padding = "zero"
) -> Float[Array, "b m m g f"]:
    """y_u = x ⋆ (u k): the correlation of an image with the kernel in every position of the group."""
    size = _size(group, kernel)
    x, kernel = promoted("lift", x, kernel)
    bank = widely(lambda kernel: _turned([kernel] * size), kernel)
    y = conv(x, bank.reshape(*kernel.shape[:3], -1), padding=padding)
    return y.reshape(*y.shape[:-1], size, kernel.shape[-1])


def group_conv(
    x: Real[Array, "b n n g c"], kernel: Real[Array, "w w h c f"], *, group: str, padding: Padding = "zero"
) -> Float[Array, "b m m g f"]:
    """y_u = Σ_v x_v ⋆ (u k_{u⁻¹v}): one ordinary convolution with |G|² kernels, of which |G| are free."""
    size = _size(group, kernel)
    if x.shape[-2] != size or kernel.shape[2] != size:
        raise ValueError(f"group_conv: {group} has {size} elements, got maps {x.shape} and a kernel {kernel.shape}")
    left = _left_quotients()[:size, :size]
    x, kernel = promoted("group_conv", x, kernel)
    bank = widely(lambda kernel: _turned(kernel[:, :, left[u]] for u in range(size)), kernel)
    w, _, _, c, f = kernel.shape
    y = conv(x.reshape(*x.shape[:3], -1), bank.reshape(w, w, size * c, size * f), padding=padding)
    return y.reshape(*y.shape[:-1], size, f)


def GroupLift(
    features: Size,
    window: Size,
    *,
    group: str = "p4",
    padding: Padding = "zero",
    kernel_init: Initializer = lecun_normal,
) -> Model:
    """Layer of `lift`, images to feature maps, with one bias per feature. Raises `ValueError` for another group."""
    _check(group)
    features, window = whole(features, "GroupLift: features"), whole(window, "GroupLift: window")

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return {
            "kernel": kernel_init(key, (window, window, x.shape[-1], features)),
            "bias": zeros(key, (features,)),
        }, {}

    def apply(
        params: Params, state: State, x: Real[Array, "b n n c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b m m g f"], State]:
        x, kernel, bias = promoted("GroupLift", x, params["kernel"], params["bias"])
        return add_bias(lift(x, kernel, group=group, padding=padding), bias), state

    return Model(init, apply, "group_lift")


def GroupConv(
    features: Size,
    window: Size,
    *,
    group: str = "p4",
    padding: Padding = "zero",
    kernel_init: Initializer = lecun_normal,
) -> Model:
    """Layer of `group_conv`, feature maps to feature maps, with one bias per feature. Raises as `GroupLift` does."""
    _check(group)
    features, window = whole(features, "GroupConv: features"), whole(window, "GroupConv: window")

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return {
            "kernel": kernel_init(key, (window, window, *x.shape[-2:], features)),
            "bias": zeros(key, (features,)),
        }, {}

    def apply(
        params: Params, state: State, x: Real[Array, "b n n g c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b m m g f"], State]:
        x, kernel, bias = promoted("GroupConv", x, params["kernel"], params["bias"])
        return add_bias(group_conv(x, kernel, group=group, padding=padding), bias), state

    return Model(init, apply, "group_conv")


def GroupPool() -> Model:
    """The maximum over the elements: feature maps [b, n, n, g, c] to images [b, n, n, c] that turn with the input."""

    def pool(x: Real[Array, "b n n g c"]) -> Real[Array, "b n n c"]:
        return fold_max(x, (x.ndim - 2,))

    return Function(pool, "group_pool")


def _turned(kernels: Iterable[Array]) -> Array:
    """Kernel number u moved by the element u, all of them side by side on the axis before the last."""
    return jnp.stack([dihedral_action(kernel, u, (0, 1)) for u, kernel in enumerate(kernels)], axis=-2)


def image_actions(group: str) -> dict[str, Action]:
    """How the elements of p4 or p4m move images."""
    _check(group)
    return {"p4": rotations, "p4m": dihedral}[group]()


def feature_actions(group: str) -> dict[str, Action]:
    """How they move feature maps: (h x)_u = h x_{h⁻¹u}."""
    names = list(image_actions(group))
    size = len(names)
    left = _left_quotients()[:size, :size]
    return {names[h]: lambda x, h=h: dihedral_action(x[..., left[h], :], h) for h in range(size)}


def _left_quotients() -> np.ndarray:
    """[h, u] the number of h⁻¹u in the dihedral group, found on a picture without symmetry."""
    picture = np.arange(9).reshape(3, 3)
    moved = [np.rot90(picture[:, ::-1] if i >= 4 else picture, i % 4) for i in range(8)]
    table = np.zeros((8, 8), int)
    for h in range(8):
        for v in range(8):
            both = np.rot90(moved[v][:, ::-1] if h >= 4 else moved[v], h % 4)
            u = next(i for i, other in enumerate(moved) if (other == both).all())
            table[h, u] = v
    return table


def _check(group: str) -> None:
    if group not in SIZES:
        raise ValueError(f"group must be p4 or p4m, got {group!r}")


def _size(group: str, kernel: Array) -> int:
    _check(group)
    if kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
        raise ValueError(f"the window must be square and odd to be turned about its middle, got {kernel.shape[:2]}")
    return SIZES[group]
