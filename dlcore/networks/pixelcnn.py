"""Causal networks over pixels: masked PixelCNN, and gated PixelCNN with two stacks (lecture 26.1).

Sub-pixels come in raster order, colours within a pixel in channel order. A network maps an image x [b, h, w, c] (and a
label) to outputs [b, h, w, c · n], whose block for sub-pixel i depends on sub-pixels before i only.

With c > 1 colours the features are cut into c equal groups: group g of layer one sees the colours before g of the
current pixel (mask A), and later layers pass group g on to groups ≥ g (mask B).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from dlcore.nn.activation import Activation, Gate
from dlcore.nn.combine import residual, serial
from dlcore.nn.conv import conv
from dlcore.nn.dtypes import promoted, widely
from dlcore.nn.embedding import Embedding, embedding
from dlcore.nn.graph import Call, compose
from dlcore.nn.init import lecun_normal, zeros
from dlcore.nn.position import PositionBias
from dlcore.nn.rows import spread_space
from dlcore.types import Input, Key, Model, Params, State


class PixelNetwork(NamedTuple):
    """A causal network, and the same network one pixel at a time over cached activations.

    `start(params, shape [b, h, w, c], label) -> cache`; before the first pixel of each row
    `row(params, cache, r) -> cache`; then `pixel(params, cache, r, c) -> (outputs [b, c · n], cache)`, which uses what
    `put(cache, r, c, value [b, c]) -> cache` has stored so far, colours of the current pixel included.
    """

    model: Model
    start: Callable[..., Any] | None = None
    row: Callable[..., Any] | None = None
    pixel: Callable[..., Any] | None = None
    put: Callable[..., Any] | None = None


def _groups(channels: int, colours: int, parts: int = 1) -> np.ndarray:
    """The colour group of every channel; gated layers hold `parts` such sets side by side."""
    if channels % (colours * parts):
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


def _vertical(features: int, window: int, first: bool, dilation: int) -> Model:
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


def _horizontal(features: int, window: int, colours: int, kind: str, dilation: int) -> Model:
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


def _pointwise(features: int, colours: int) -> Model:
    return MaskedConv(features, 1, colours=colours)


def _head(outputs: int, colours: int, hidden: int) -> Model:
    """Two masked 1×1 layers on the features."""
    return serial(
        relu_0=Activation("relu"),
        hidden=_pointwise(hidden, colours),
        relu_1=Activation("relu"),
        outputs=_pointwise(colours * outputs, colours),
    )


def PixelCNN(
    outputs: int, *, colours: int = 1, features: int = 64, first: int = 7, windows: Sequence[int] = (3,) * 5
) -> PixelNetwork:
    """Masked convolutions: one of window `first` with mask A, then residual blocks 1×1, window×window, 1×1 with mask B.

    `outputs` numbers per sub-pixel. Stacked masked windows leave a blind spot at the right above the current pixel
    (van den Oord et al. 2016b, fig. 1); windows of 1 do not. It has no cached form.
    """

    def block(window: int) -> Model:
        half = features // 2
        return residual(
            serial(
                relu_0=Activation("relu"),
                reduce=_pointwise(half, colours),
                relu_1=Activation("relu"),
                context=MaskedConv(half, window, colours=colours),
                relu_2=Activation("relu"),
                expand=_pointwise(features, colours),
            )
        )

    blocks = {f"block_{i + 1}": block(window) for i, window in enumerate(windows)}
    stem = MaskedConv(features, first, colours=colours, kind="A")
    return PixelNetwork(serial(first=stem, **blocks, head=_head(outputs, colours, features)))


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


def GatedLayer(
    features: int, window: int, *, colours: int = 1, first: bool = False, classes: int = 0, dilation: int = 1
) -> Model:
    """One layer of both stacks, `(vertical, horizontal, label) -> (vertical, horizontal)`.

    The vertical stack sees all rows above, the horizontal one the current row and, through `link`, the vertical one;
    the horizontal output is added to its input except in layer one, which also has a bias per position.
    """
    label = {"label": Embedding(classes, 4 * features, table_init=zeros)} if classes else {}
    position = {"position": PositionBias()} if first else {}

    def forward(call: Call, v: Array, h: Array, y: Array | None = None) -> tuple[Array, Array]:
        up, left = call("vertical", v), call("horizontal", h)
        both = jnp.concatenate([up, left], axis=-1)
        both = call("position", both) if first else both
        if classes:
            # The label is added at every position: its gradient is a sum over all of them.
            both = widely(_add_everywhere, *promoted("pixelcnn", both, call("label", y)))
        up, left = jnp.split(both, 2, axis=-1)
        out = call("out", call("gated_horizontal", left + call("link", up)))
        return call("gated_vertical", up), out if first else h + out

    return compose(
        forward,
        vertical=_vertical(2 * features, window, first, dilation),
        horizontal=_horizontal(2 * features, window, colours, "A" if first else "B", dilation),
        link=_pointwise(2 * features, 1),
        out=_pointwise(features, colours),
        gated_vertical=GatedTanh(),
        gated_horizontal=GatedTanh(),
        **label,
        **position,
    )._replace(kind="gated_layer")


def _add_everywhere(x: Array, v: Array) -> Array:
    return x + spread_space(v, x.shape[1:-1])


def GatedPixelCNN(
    outputs: int,
    *,
    colours: int = 1,
    features: int = 64,
    windows: Sequence[int] = (7, 3, 3),
    dilations: Sequence[int] = (),
    hidden: int = 0,
    classes: int = 0,
) -> PixelNetwork:
    """Gated PixelCNN without a blind spot (van den Oord et al. 2016b), `outputs` numbers per sub-pixel.

    `windows` holds the window of every layer and `dilations` the distance of its taps, 1 unless given: with windows
    (11, 3, 3) and dilations (1, 2, 4) a pixel depends on 11 rows above it, instead of 7, for the same work. With
    `classes` the network takes a label [b] as well and every layer has a bias per class. The head has `hidden`
    features, twice `features` unless given. Raises `ValueError` for even windows, for a dilated first layer or
    features that colours do not divide; its network for labels that are missing, not asked for, or not one per image.
    """
    dilations = tuple(dilations) or (1,) * len(windows)
    if any(window % 2 == 0 for window in windows) or windows[0] < 3:
        raise ValueError(f"windows must be odd and the first at least 3, got {tuple(windows)}")
    if len(dilations) != len(windows) or dilations[0] != 1 or min(dilations) < 1:
        raise ValueError(f"dilations must be one per window and start with 1, got {dilations} for {tuple(windows)}")
    names = [f"layer_{i + 1}" for i in range(len(windows))]
    layers = {
        name: GatedLayer(features, window, colours=colours, first=i == 0, classes=classes, dilation=dilation)
        for i, (name, window, dilation) in enumerate(zip(names, windows, dilations, strict=True))
    }

    def forward(call: Call, x: Array, label: Array | None = None) -> Array:
        _check_label(classes, label, x.shape)
        v, h = x, x
        for name in names:
            v, h = call(name, v, h, label) if classes else call(name, v, h)
        return call("head", h)

    model = compose(forward, **layers, head=_head(outputs, colours, hidden or 2 * features))
    return _cached(model._replace(kind="gated_pixelcnn"), windows, dilations, colours, features, classes)


def _check_label(classes: int, label: Array | None, shape: Sequence[int]) -> None:
    if classes and (label is None or label.shape != tuple(shape[:1])):
        given = "none" if label is None else f"shape {label.shape}"
        raise ValueError(f"label must be one class number for each image of {tuple(shape)}, got {given}")
    if not classes and label is not None:
        raise ValueError("this network takes no label: it was made without classes")


def _cached(
    model: Model, windows: Sequence[int], dilations: Sequence[int], colours: int, features: int, classes: int
) -> PixelNetwork:
    """The gated network as small matrix products: a row of the vertical stack, a pixel of the horizontal one."""
    count = len(windows)
    heights = [w // 2 if i == 0 else w // 2 + 1 for i, w in enumerate(windows)]
    # Rows above, columns at either side and pixels at the left that a layer's cache holds beside the current one.
    tops = [(height - 1) * d + (i == 0) for i, (height, d) in enumerate(zip(heights, dilations, strict=True))]
    sides = [window // 2 * d for window, d in zip(windows, dilations, strict=True)]

    def start(params: Params, shape: Sequence[int], label: Array | None = None) -> dict[str, Any]:
        _check_label(classes, label, shape)
        b, h, w, c = shape
        widths = [c, *[features] * (count - 1)]
        up = [jnp.zeros((b, h + tops[i], w + 2 * sides[i], widths[i])) for i in range(count)]
        left = [jnp.zeros((b, w + sides[i], widths[i])) for i in range(count)]
        links = [jnp.zeros((b, w, 2 * features)) for _ in range(count)]
        labels = [
            embedding(label, params[f"layer_{i + 1}"]["label"]["embedding"])
            if classes
            else jnp.zeros((b, 4 * features))
            for i in range(count)
        ]
        return {"up": up, "left": left, "links": links, "labels": labels}

    def row(params: Params, cache: dict[str, Any], r: Array) -> dict[str, Any]:
        up, links = list(cache["up"]), []
        for i in range(count):
            layer, label = params[f"layer_{i + 1}"], cache["labels"][i]
            kernel, d = layer["vertical"]["kernel"], dilations[i]
            rows = jax.lax.dynamic_slice_in_dim(up[i], r, (heights[i] - 1) * d + 1, axis=1)
            width = rows.shape[2] - 2 * sides[i]
            taps = [rows[:, a * d, k * d : k * d + width] for a in range(heights[i]) for k in range(windows[i])]
            y = jnp.concatenate(taps, -1) @ kernel.reshape(-1, kernel.shape[-1]) + layer["vertical"]["bias"]
            y = y + label[:, None, : 2 * features]
            if i == 0:
                y = y + layer["position"]["bias"][r, :, : 2 * features]
            links.append(y @ layer["link"]["kernel"][0, 0] + layer["link"]["bias"])
            if i + 1 < count:
                place = (0, r + tops[i + 1], sides[i + 1], 0)
                up[i + 1] = jax.lax.dynamic_update_slice(up[i + 1], gate(y)[:, None], place)
        return {**cache, "up": up, "links": links, "left": [jnp.zeros_like(h) for h in cache["left"]]}

    def pixel(params: Params, cache: dict[str, Any], r: Array, c: Array) -> tuple[Array, dict[str, Any]]:
        left = list(cache["left"])
        for i in range(count):
            layer, label = params[f"layer_{i + 1}"], cache["labels"][i]
            patch = jax.lax.dynamic_slice_in_dim(left[i], c, sides[i] + 1, axis=1)[:, :: dilations[i]]
            kernel = layer["horizontal"]["kernel"][0]
            mask = colour_mask(kernel.shape[1], kernel.shape[2], colours, "B" if i else "A", parts=2)
            kernel = kernel.at[-1].multiply(mask)
            y = patch.reshape(len(patch), -1) @ kernel.reshape(-1, kernel.shape[-1]) + layer["horizontal"]["bias"]
            y = y + label[:, 2 * features :] + cache["links"][i][:, c]
            if i == 0:
                y = y + layer["position"]["bias"][r, c, 2 * features :]
            out = _point(layer["out"], gate(y), colours)
            h = out if i == 0 else patch[:, -1] + out
            if i + 1 < count:
                place = (0, c + sides[i + 1], 0)
                left[i + 1] = jax.lax.dynamic_update_slice(left[i + 1], h[:, None], place)
        h = _point(params["head"]["hidden"], jax.nn.relu(h), colours)
        return _point(params["head"]["outputs"], jax.nn.relu(h), colours), {**cache, "left": left}

    def put(cache: dict[str, Any], r: Array, c: Array, value: Array) -> dict[str, Any]:
        up, left = list(cache["up"]), list(cache["left"])
        up[0] = jax.lax.dynamic_update_slice(up[0], value[:, None, None], (0, r + tops[0], c + sides[0], 0))
        left[0] = jax.lax.dynamic_update_slice(left[0], value[:, None], (0, c + sides[0], 0))
        return {**cache, "up": up, "left": left}

    return PixelNetwork(model, start, row, pixel, put)


def _point(params: Params, x: Float[Array, "b f"], colours: int) -> Float[Array, "b g"]:
    kernel = params["kernel"][0, 0]
    return x @ (kernel * colour_mask(*kernel.shape, colours, "B")) + params["bias"]
