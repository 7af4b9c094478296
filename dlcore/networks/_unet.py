"""U-Nets: one of images alone (lecture 25), and one that is told a time and, if wanted, a class (29.3)."""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dlcore.nn import (
    Activation,
    AvgPool,
    Call,
    Conv,
    Dense,
    Dropout,
    Embedding,
    GroupNorm,
    SpatialAttention,
    compose,
    depth_to_space,
    promoted,
    serial,
    space_to_depth,
    spread_space,
    upsample,
    widely,
)
from dlcore.nn.init import zeros
from dlcore.setting import Number, whole
from dlcore.types import Model


def sinusoidal(t: Int[Array, " b"] | Float[Array, " b"], features: int) -> Float[Array, "b f"]:
    """[sin(ω_i t), cos(ω_i t)] with ω_i from 1 down to 1/10000, evenly in the logarithm (Vaswani et al. 2017, 3.5).

    Raises `ValueError` unless `features` is even and at least 4.
    """
    if whole(features, "sinusoidal: features", least=4) % 2:
        raise ValueError(f"sinusoidal: features must be even and at least 4, got {features}")
    frequencies = jnp.exp(-math.log(10_000) * jnp.arange(features // 2, dtype=jnp.float32) / (features // 2 - 1))
    angle = t.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


def Norm(features: int) -> Model:
    """Group norm with at most eight groups."""
    return GroupNorm(math.gcd(features, 8))


def TimeBlock(inputs: int, features: int, *, dropout: Number = 0.0) -> Model:
    """Residual block with inputs (x, e): the embedding e scales and shifts the second norm (Dhariwal & Nichol 2021, A).

    h = conv(silu(norm x)); y = conv(silu((1 + s(e)) norm h + m(e))), the last kernel starting at 0; the output is
    shortcut(x) + y.
    """

    def forward(call: Call, x: Array, e: Array) -> Array:
        h = call("conv_1", call("silu_1", call("norm_1", x)))
        scale, shift = jnp.split(call("film", call("silu_film", e)), 2, axis=-1)
        h, scale, shift = promoted("TimeBlock", call("norm_2", h), scale, shift)
        # Both are added up over all positions in the backward pass.
        h = widely(_moved, h, scale, shift)
        h = call("dropout", call("silu_2", h))
        return (x if inputs == features else call("shortcut", x)) + call("conv_2", h)

    return compose(
        forward,
        norm_1=Norm(inputs),
        silu_1=Activation("silu"),
        conv_1=Conv(features, 3),
        silu_film=Activation("silu"),
        film=Dense(2 * features),
        norm_2=GroupNorm(math.gcd(features, 8), scale=False, bias=False),
        silu_2=Activation("silu"),
        dropout=Dropout(dropout),
        conv_2=Conv(features, 3, kernel_init=zeros),
        shortcut=Conv(features, 1),
    )._replace(kind="time_block")


def _moved(h: Array, scale: Array, shift: Array) -> Array:
    """h · (1 + scale) + shift, with one number per example and channel."""
    space = h.shape[1:-1]
    return h * spread_space(1 + scale, space) + spread_space(shift, space)


def PlainBlock(inputs: int, features: int, *, dropout: Number = 0.0) -> Model:
    """Residual block: shortcut(x) + conv(silu(norm conv(silu(norm x)))), the last kernel starting at 0."""

    def forward(call: Call, x: Array) -> Array:
        h = call("conv_1", call("silu_1", call("norm_1", x)))
        h = call("dropout", call("silu_2", call("norm_2", h)))
        return (x if inputs == features else call("shortcut", x)) + call("conv_2", h)

    return compose(
        forward,
        norm_1=Norm(inputs),
        silu_1=Activation("silu"),
        conv_1=Conv(features, 3),
        norm_2=Norm(features),
        silu_2=Activation("silu"),
        dropout=Dropout(dropout),
        conv_2=Conv(features, 3, kernel_init=zeros),
        shortcut=Conv(features, 1),
    )._replace(kind="plain_block")


def UNet(
    outputs: int,
    widths: Sequence[int] = (16, 32, 64),
    *,
    blocks: int = 1,
    patch: int = 1,
    heads: int = 0,
    dropout: Number = 0.0,
) -> Model:
    """Image [b, h, w, c] to `outputs` numbers per pixel [b, h, w, outputs], at first 0 (Ronneberger et al. 2015).

    One resolution per width, each half of the one before by averaging; `blocks` residual blocks on the way down and as
    many on the way up, where the features from below, repeated, meet those kept on the way down. `patch` pixels each
    way make one position at the start, which saves patch² of the work. With `heads` the lowest resolution has
    self-attention. Raises `ValueError` for sides that do not halve; `dlcore.nn.padded` pads and crops them.
    """

    def forward(call: Call, x: Array) -> Array:
        return _descend_and_rise(call, x, (), len(widths), blocks, patch, heads)

    return compose(forward, **_parts(PlainBlock, outputs, widths, blocks, patch, heads, dropout))._replace(kind="unet")


def TimeUNet(
    channels: int,
    widths: Sequence[int] = (32, 64),
    *,
    blocks: int = 1,
    patch: int = 1,
    heads: int = 0,
    classes: int = 0,
    dropout: Number = 0.0,
) -> Model:
    """The `UNet` of inputs (x [b, h, w, channels], t [b]), with classes (…, label [b]); output like x, at first 0.

    Every block sees the sum of an embedding of the time and one of the label. Label `classes` means none. Raises
    `ValueError` for sides that do not halve.
    """
    wide = 4 * widths[0]

    def forward(call: Call, x: Array, t: Array, *label: Array) -> Array:
        e = call("time", sinusoidal(t, widths[0]).astype(x.dtype))
        e = e + call("label", *label) if classes else e
        return _descend_and_rise(call, x, (e,), len(widths), blocks, patch, heads)

    parts = _parts(TimeBlock, channels, widths, blocks, patch, heads, dropout)
    parts |= {"time": serial(Dense(wide), Activation("silu"), Dense(wide))}
    parts |= {"label": Embedding(classes + 1, wide)} if classes else {}
    return compose(forward, **parts)._replace(kind="time_unet")


def _descend_and_rise(
    call: Call, x: Array, told: tuple[Array, ...], levels: int, blocks: int, patch: int, heads: int
) -> Array:
    """The way down, the middle and the way up; every block is `told` the same beside its features."""
    _check_sizes(x.shape, patch, levels)
    h, kept = call("stem", space_to_depth(x, patch)), []
    for i in range(levels):
        h = call("pool", h) if i else h
        for j in range(blocks):
            h = call(f"down_{i}_{j}", h, *told)
        kept.append(h)
    h = call("middle", call("attention", h) if heads else h, *told)
    for i in reversed(range(levels)):
        h = jnp.concatenate([h if i == levels - 1 else upsample(h), kept[i]], axis=-1)
        for j in range(blocks):
            h = call(f"up_{i}_{j}", h, *told)
    return depth_to_space(call("out", call("silu", call("norm", h))), patch)


def _parts(
    block: Callable[..., Model],
    outputs: int,
    widths: Sequence[int],
    blocks: int,
    patch: int,
    heads: int,
    dropout: Number,
) -> dict[str, Model]:
    """The parts of `_descend_and_rise`, its blocks made by `block(inputs, features)`."""
    for value, name in ((outputs, "outputs"), (blocks, "blocks"), (patch, "patch")):
        whole(value, f"U-Net: {name}")
    parts = {
        "stem": Conv(widths[0], 3),
        "middle": block(widths[-1], widths[-1], dropout=dropout),
        "pool": AvgPool(2),
        "norm": Norm(widths[0]),
        "silu": Activation("silu"),
        "out": Conv(outputs * patch**2, 3, kernel_init=zeros),
    }
    parts |= {"attention": SpatialAttention(widths[-1], heads)} if heads else {}
    for i, width in enumerate(widths):
        above, below = widths[max(i - 1, 0)], widths[min(i + 1, len(widths) - 1)]
        for j in range(blocks):
            parts[f"down_{i}_{j}"] = block(width if j else above, width, dropout=dropout)
            parts[f"up_{i}_{j}"] = block(width if j else below + width, width, dropout=dropout)
    return parts


def _check_sizes(shape: Sequence[int], patch: int, levels: int) -> None:
    factor = patch * 2 ** (levels - 1)
    if shape[1] % factor or shape[2] % factor:
        raise ValueError(
            f"an image of {shape[1]}×{shape[2]} cannot be cut into patches of {patch} and halved "
            f"{levels - 1} times; make its sides multiples of {factor}, or use fewer widths"
        )
