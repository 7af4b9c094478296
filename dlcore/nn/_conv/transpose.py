"""Transposed convolution: the adjoint of a convolution, which turns few positions into many (lecture 14.6, 27.1)."""

from collections.abc import Sequence

import jax
from jaxtyping import Array, Float, Real

from dlcore.nn._conv import conv
from dlcore.nn._conv.blocks import conv_by_blocks, whole_blocks
from dlcore.nn._dtypes import promoted
from dlcore.nn._rows import add_bias
from dlcore.nn._window import Padding, Sizes, check_window, pad_widths, per_axis
from dlcore.nn.init import Initializer, lecun_normal, zeros
from dlcore.setting import Size, whole
from dlcore.types import Input, Key, Model, Params, State


def transposed_space(
    space: Sequence[Size],
    window: Sequence[Size],
    *,
    stride: Sizes = 1,
    padding: Padding = "zero",
    dilation: Sizes = 1,
) -> tuple[int, ...]:
    """The usual size n that a convolution takes to the sizes `space`, of the several ones that it does.

    n = m · stride for padding by name; else the smallest, (m − 1) · stride + reach − low − high, the reach of a window
    being (w − 1) · dilation + 1.
    """
    axes = len(window)
    space, window = per_axis(space, axes, "space"), per_axis(window, axes, "window")
    strides, dilations = per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation")
    if isinstance(padding, str) and padding != "valid":
        return tuple(m * s for m, s in zip(space, strides, strict=True))
    reach = [(w - 1) * d + 1 for w, d in zip(window, dilations, strict=True)]
    widths = pad_widths(reach, window, strides, dilations, padding)
    cells = zip(space, strides, reach, widths, strict=True)
    return tuple((m - 1) * s + r - low - high for m, s, r, (low, high) in cells)


def conv_transpose(
    y: Real[Array, "b *space c_in"],
    kernel: Real[Array, "*window c_group c_in"],
    bias: Real[Array, " c_out"] | None = None,
    *,
    stride: Sizes = 1,
    padding: Padding = "zero",
    dilation: Sizes = 1,
    groups: Size = 1,
    space: Sequence[Size] | None = None,
) -> Float[Array, "b *space_out c_out"]:
    """x = Aᵀ y + bias, where A x = `conv(x, kernel, stride=…, padding=…, dilation=…, groups=…)`.

    Every y[p, o] adds kernel[k, :, o] · y[p, o] at position p · stride + k · dilation; what falls on padding is cut
    off, or comes back to the cell that the padding copied. The kernel is that of A, [*window, c_out/groups, c_in].
    `space` is the size of x; without it, `transposed_space`. Exact for every padding: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩ (Dumoulin &
    Visin 2016, chapter 4). Raises `ValueError` when A does not take a signal of that size to one like y.
    """
    axes, window = kernel.ndim - 2, kernel.shape[:-2]
    if axes not in (1, 2, 3) or y.ndim != kernel.ndim or y.shape[-1] != kernel.shape[-1]:
        raise ValueError(
            f"conv_transpose: input of shape {y.shape} does not fit a kernel of shape {kernel.shape}; "
            f"want [b, *space, c_in] and [*window, c_out/groups, c_in]"
        )
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    groups = whole(groups, "conv_transpose: groups")
    sizes = per_axis(space, axes, "space") if space is not None else transposed_space(y.shape[1:-1], window, **options)
    if min(sizes) < 1:
        raise ValueError(f"conv_transpose: nothing is left of an output of size {sizes}; use less padding")
    y, kernel, bias = promoted("conv_transpose", y, kernel, bias)
    x = jax.ShapeDtypeStruct((y.shape[0], *sizes, kernel.shape[-2] * groups), y.dtype)

    strides, dilations = per_axis(stride, axes, "stride"), per_axis(dilation, axes, "dilation")
    blocks = groups == 1 and set(dilations) == {1} and max(strides) > 1 and whole_blocks(window, strides)

    def forward(x: Array) -> Array:
        if blocks:
            return conv_by_blocks(x, kernel, strides, padding)
        return conv(x, kernel, groups=groups, **options)

    found = jax.eval_shape(forward, x).shape
    if found != y.shape:
        raise ValueError(
            f"conv_transpose: space={sizes} is taken to {found[1:-1]} by the convolution, but the input has "
            f"{y.shape[1:-1]}; use {transposed_space(y.shape[1:-1], window, **options)}"
        )
    (out,) = jax.linear_transpose(forward, x)(y)
    return out if bias is None else add_bias(out, bias)


def ConvTranspose(
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
    """Layer of `conv_transpose` with params `kernel` [*window, features/groups, c_in] and `bias`.

    With stride s and padding "zero" the output is s times as large. `kernel_init` sees the axes as [*window, c_in,
    features/groups], so that its fans are those of this layer. Leave the bias out before a batch norm. Raises
    `ValueError` when `groups` does not divide the channels, and for sizes and padding that are none.
    """
    features, groups = whole(features, "ConvTranspose: features"), whole(groups, "ConvTranspose: groups")
    if features % groups:
        raise ValueError(f"ConvTranspose: features={features} must be a positive multiple of groups={groups}")
    check_window("ConvTranspose", padding, window=window, stride=stride, dilation=dilation)

    def init(key: Key, x: Input) -> tuple[Params, State]:
        sizes = per_axis(window, len(x.shape) - 2, "window")
        if x.shape[-1] % groups:
            raise ValueError(f"ConvTranspose: groups={groups} does not divide the {x.shape[-1]} input channels")
        kernel = kernel_init(key, (*sizes, x.shape[-1], features // groups)).swapaxes(-1, -2)
        return ({"kernel": kernel} | {"bias": bias_init(key, (features,))} if bias else {"kernel": kernel}), {}

    def apply(
        params: Params, state: State, x: Real[Array, "b *space c"], *, train: bool = False, key: Key | None = None
    ) -> tuple[Float[Array, "b *out f"], State]:
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return conv_transpose(x, params["kernel"], params.get("bias"), **options), state

    return Model(init, apply, "conv_transpose")
