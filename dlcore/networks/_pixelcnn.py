"""Causal networks over pixels: masked PixelCNN, and gated PixelCNN with two stacks (lecture 26.1).

Sub-pixels come in raster order, colours within a pixel in channel order. A network maps an image x [b, h, w, c] (and a
label) to outputs [b, h, w, c · n], whose block for sub-pixel i depends on sub-pixels before i only.

With c > 1 colours the features are cut into c equal groups: group g of layer one sees the colours before g of the
current pixel (mask A), and later layers pass group g on to groups ≥ g (mask B).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from dlcore.networks._causal import GatedTanh, HorizontalConv, MaskedConv, PointwiseConv, VerticalConv
from dlcore.networks._pixelcnn_cached import cached, check_label
from dlcore.nn import (
    Activation,
    Call,
    Embedding,
    PositionBias,
    compose,
    promoted,
    residual,
    serial,
    spread_space,
    widely,
)
from dlcore.nn.init import zeros
from dlcore.setting import whole
from dlcore.types import Model


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


def _head(outputs: int, colours: int, hidden: int) -> Model:
    """Two masked 1×1 layers on the features."""
    return serial(
        relu_0=Activation("relu"),
        hidden=PointwiseConv(hidden, colours),
        relu_1=Activation("relu"),
        outputs=PointwiseConv(colours * outputs, colours),
    )


def PixelCNN(
    outputs: int, *, colours: int = 1, features: int = 64, first: int = 7, windows: Sequence[int] = (3,) * 5
) -> PixelNetwork:
    """Masked convolutions: one of window `first` with mask A, then residual blocks 1×1, window×window, 1×1 with mask B.

    `outputs` numbers per sub-pixel. Stacked masked windows leave a blind spot at the right above the current pixel
    (van den Oord et al. 2016b, fig. 1); windows of 1 do not. It has no cached form.
    """

    whole(features, "PixelCNN: features", least=2)
    first, *windows = (whole(window, "PixelCNN: a window") for window in (first, *windows))

    def block(window: int) -> Model:
        half = features // 2
        return residual(
            serial(
                relu_0=Activation("relu"),
                reduce=PointwiseConv(half, colours),
                relu_1=Activation("relu"),
                context=MaskedConv(half, window, colours=colours),
                relu_2=Activation("relu"),
                expand=PointwiseConv(features, colours),
            )
        )

    blocks = {f"block_{i + 1}": block(window) for i, window in enumerate(windows)}
    stem = MaskedConv(features, first, colours=colours, kind="A")
    return PixelNetwork(serial(first=stem, **blocks, head=_head(outputs, colours, features)))


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
        vertical=VerticalConv(2 * features, window, first, dilation),
        horizontal=HorizontalConv(2 * features, window, colours, "A" if first else "B", dilation),
        link=PointwiseConv(2 * features, 1),
        out=PointwiseConv(features, colours),
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
    whole(features, "GatedPixelCNN: features")
    whole(colours, "GatedPixelCNN: colours")
    windows = [whole(window, "GatedPixelCNN: a window") for window in windows]
    dilations = tuple(whole(d, "GatedPixelCNN: a dilation", least=0) for d in dilations) or (1,) * len(windows)
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
        check_label(classes, label, x.shape)
        v, h = x, x
        for name in names:
            v, h = call(name, v, h, label) if classes else call(name, v, h)
        return call("head", h)

    model = compose(forward, **layers, head=_head(outputs, colours, hidden or 2 * features))
    cache = cached(windows, dilations, colours, features, classes)
    return PixelNetwork(model._replace(kind="gated_pixelcnn"), *cache)
