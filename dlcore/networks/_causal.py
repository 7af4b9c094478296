"""Convolutions that see earlier sub-pixels only, and the gate between them (lecture 26.1).

With c > 1 colours the features are cut into c equal groups: mask A shows group g the colours before g of the current
pixel, mask B those up to g.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from dlcore.nn import Activation, Call, Gate, compose, conv
from dlcore.nn.init import lecun_normal, zeros
from dlcore.setting import whole
from dlcore.types import Input, Key, Model, Params, State


def _groups(channels: int, colours: int, parts: int = 1) -> np.ndarray:
    """The colour group of every channel; gated layers hold `parts` such sets side by side."""
    if whole(channels, "channels of a masked convolution") % (whole(colours, "colours") * parts):
        raise ValueError(f"{channels} channels cannot be cut into {colours} colours; use a multiple of {colours}")
    return np.tile(np.arange(channels // parts) * colours * parts // channels, parts)


def colour_mask(inputs: int, outputs: int, colours: int, kind: str, parts: int = 1) -> np.ndarray:
    """[inputs, outputs] of 0 and 1 within one pixel: "A" passes earlier colours on, "B" the same one as well."""
    if kind not in ("A", "B"):
        raise ValueError(f"mask must be A or B, got {kind!r}")
    source, target = _groups(inputs, colours)[:, None], _groups(outputs, colours, parts)[None]
    return (source < target if kind == "A" else source <= target).astype(np.float32)


def causal_mask(window: int, inputs: int, outputs: int, colours: int, kind: str) -> np.ndarray:
    """[window, window, inputs, outputs]: 1 above and to the left of the centre, `colour_mask` at it, 0 behind it.

    Raises `ValueError` for an even window, or channels that colours do not divide.
    """
    if window % 2 == 0:
        raise ValueError(f"a causal window must be odd, got {window}")
    mask, middle = np.zeros((window, window, inputs, outputs), np.float32), window // 2
    mask[:middle] = mask[middle, :middle] = 1
    mask[middle, middle] = colour_mask(inputs, outputs, colours, kind)
    return mask


def _kernel(key: Key, shape: tuple[int, ...]) -> Params:
    return {"kernel": lecun_normal(key, shape), "bias": zeros(key, shape[-1:])}


def masked_conv(
    x: Real[Array, "b h w c"], kernel: Float[Array, "k k c f"], bias: Float[Array, " f"]
) -> Float[Array, "b h w f"]:
    """Convolution with a kernel that is 0 behind its centre: rows above and pixels to the left are all it computes."""
    half = kernel.shape[0] // 2
    left = conv(x, kernel[half : half + 1, : half + 1], bias, padding=[(0, 0), (half, 0)])
    if half == 0:
        return left
    return left + conv(x, kernel[:half], padding=[(half, 0), (half, half)])[:, :-1]


def MaskedConv(features: int, window: int, *, colours: int = 1, kind: str = "B") -> Model:
    """Convolution with the kernel masked by `causal_mask` (van den Oord et al. 2016, fig. 2)."""

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return _kernel(key, (window, window, x.shape[-1], features)), {}

    def apply(
        params: Params, state: State, x: Real[Array, "b h w c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b h w f"], State]:
        mask = causal_mask(window, x.shape[-1], features, colours, kind)
        return masked_conv(x, params["kernel"] * mask.astype(x.dtype), params["bias"]), state

    return Model(init, apply, "masked_conv")


def VerticalConv(features: int, window: int, first: bool, dilation: int) -> Model:
    """Rows above (layer one), or rows up to the current one of a stack that has only seen rows above."""
    half = window // 2
    height = half if first else half + 1

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return _kernel(key, (height, window, x.shape[-1], features)), {}

    def apply(
        params: Params, state: State, x: Real[Array, "b h w c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b h w f"], State]:
        padding = [((height - 1) * dilation + first, 0), (half * dilation, half * dilation)]
        y = conv(x, params["kernel"], params["bias"], padding=padding, dilation=dilation)
        return y[:, :-1] if first else y, state

    return Model(init, apply, "vertical_conv")


def HorizontalConv(features: int, window: int, colours: int, kind: str, dilation: int) -> Model:
    """Pixels to the left, and the current one through a colour mask."""
    reach = window // 2 + 1

    def init(key: Key, x: Input) -> tuple[Params, State]:
        return _kernel(key, (1, reach, x.shape[-1], features)), {}

    def apply(
        params: Params, state: State, x: Real[Array, "b h w c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b h w f"], State]:
        mask = np.ones((1, reach, x.shape[-1], features), np.float32)
        mask[0, -1] = colour_mask(x.shape[-1], features, colours, kind, parts=2)
        kernel = params["kernel"] * mask.astype(x.dtype)
        padding = [(0, 0), ((reach - 1) * dilation, 0)]
        return conv(x, kernel, params["bias"], padding=padding, dilation=(1, dilation)), state

    return Model(init, apply, "horizontal_conv")


def PointwiseConv(features: int, colours: int) -> Model:
    """A 1×1 convolution with mask B: each colour sees itself and those before it."""
    return MaskedConv(features, 1, colours=colours)


def gate(x: Float[Array, "*b f"]) -> Float[Array, "*b half"]:
    """tanh(a) ⊙ σ(b) of the two halves of the last axis (van den Oord et al. 2016b, eq. 2)."""
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.tanh(a) * jax.nn.sigmoid(b)


def GatedTanh() -> Model:
    """Layer of `gate`, with parts `tanh` and, as its factor, `gate`."""

    def forward(call: Call, x: Float[Array, "*b f"]) -> Float[Array, "*b half"]:
        a, b = jnp.split(x, 2, axis=-1)
        return call("tanh", a) * call("gate", b)

    return compose(forward, tanh=Activation("tanh"), gate=Gate())._replace(kind="gated_tanh")
