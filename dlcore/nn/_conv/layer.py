"""Convolution layers in one, two and three dimensions (lecture 14.1–14.5, 14.8)."""

from jaxtyping import Array, Float, Real

from dlcore.nn._conv.lowering.table import convolution
from dlcore.nn._dtypes import promoted
from dlcore.nn._rows import add_bias
from dlcore.nn._window import Padding, Sizes, check_window, copies, pad, pad_widths, per_axis
from dlcore.nn.init import Initializer, lecun_normal, zeros
from dlcore.setting import Size, whole
from dlcore.types import Input, Key, Model, Params, State


def conv(
    x: Real[Array, "b *space c_in"],
    kernel: Real[Array, "*window c_group c_out"],
    bias: Real[Array, " c_out"] | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding = "zero",
    dilation: Sizes = 1,
    groups: Size = 1,
) -> Float[Array, "b *space_out c_out"]:
    """Cross-correlation y[p, o] = Σ_{k, i} x[p·stride + k·dilation, i] · kernel[k, i, o] + bias[o].

    That is what deep learning calls convolution; flip the kernel for the mathematician's. Input is
    [batch, *space, channels], with as many spatial axes as the kernel [*window, c_in/groups, c_out]. With `groups`
    = g, the i-th of g blocks of outputs sees the i-th block of inputs (g = c_in is depthwise). Padding is
    described in `dlcore.nn.pad_widths`, dtypes in `dlcore.nn.promoted`. Raises `ValueError` for shapes that do not fit
    together and sizes that are not whole numbers.
    """
    axes = kernel.ndim - 2
    if axes not in (1, 2, 3) or x.ndim != kernel.ndim:
        raise ValueError(
            f"conv: input of shape {x.shape} does not fit a kernel of shape {kernel.shape}; want [b, *space, c]"
        )
    groups = whole(groups, "conv: groups")
    if x.shape[-1] != kernel.shape[-2] * groups or kernel.shape[-1] % groups:
        raise ValueError(
            f"conv: {x.shape[-1]} input channels and groups={groups} do not fit a kernel of shape {kernel.shape}; "
            f"the kernel must be [*window, c_in/groups, c_out] with c_out divisible by groups"
        )
    strides, dilations = per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation")
    window = kernel.shape[:-2]
    widths = pad_widths(x.shape[1:-1], window, strides, dilations, padding)
    x, kernel, bias = promoted("conv", x, kernel, bias)
    if copies(padding):
        x, widths = pad(x, widths, padding), [(0, 0)] * axes
    y = convolution(x, kernel, strides, widths, dilations, groups)
    return y if bias is None else add_bias(y, bias)


def Conv(
    features: Size,
    window: Sizes,
    *,
    stride: Sizes = 1,
    padding: Padding = "zero",
    dilation: Sizes = 1,
    groups: Size = 1,
    bias: bool = True,
    kernel_init: Initializer = lecun_normal,
    bias_init: Initializer = zeros,
) -> Model:
    """Layer of `conv` with params `kernel` and `bias`; an int `window` is used for every spatial axis of the input.

    Leave the bias out before a batch norm. Raises `ValueError` when `groups` does not divide the
    channels, and for sizes and padding that are none.
    """
    features, groups = whole(features, "Conv: features"), whole(groups, "Conv: groups")
    if features % groups:
        raise ValueError(f"Conv: features={features} must be a positive multiple of groups={groups}")
    check_window("Conv", padding, window=window, stride=stride, dilation=dilation)

    def init(key: Key, x: Input) -> tuple[Params, State]:
        sizes = per_axis(window, len(x.shape) - 2, "window")
        if x.shape[-1] % groups:
            raise ValueError(f"Conv: groups={groups} does not divide the {x.shape[-1]} input channels")
        params = {"kernel": kernel_init(key, (*sizes, x.shape[-1] // groups, features))}
        return (params | {"bias": bias_init(key, (features,))} if bias else params), {}

    def apply(
        params: Params, state: State, x: Real[Array, "b *space c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b *out f"], State]:
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return conv(x, params["kernel"], params.get("bias"), **options), state

    return Model(init, apply, "conv")
