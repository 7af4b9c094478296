"""Convolutions of oneDNN, which PyTorch computes with too: several times as fast as XLA's on CPU (lecture 14.1–14.5).

A convolution is linear in its input and in its kernel, and so are its two gradients. Each of the three is the
transposition of the others:

    value(x, k)[p] = Σ_t x[p·stride + t·dilation] k[t],   ⟨value(x, k), dy⟩ = ⟨x, input(dy, k)⟩ = ⟨k, kernel(x, dy)⟩.

As primitives that know it they have derivatives of every order, in both modes. On CPU they are calls of oneDNN; where
a program is exported, split over devices by the compiler, or on another backend they are XLA's convolution.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float, Real

from dlcore.nn._conv.lowering import onednn_library
from dlcore.nn._conv.lowering.xla import Widths, conv_by_xla
from dlcore.nn._dtypes import promoted
from dlcore.nn._product import product
from dlcore.nn._window import output_space

PART = 2**24
"""Multiply–adds from which on a part of the batch is worth a task of its own."""

MOST_PARTS = 64

POSITIONS = 1024
"""Outputs of each channel from which on their products with the input take much longer than one more sum."""


class Geometry(NamedTuple):
    """What a convolution does, apart from its numbers."""

    space: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    widths: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int

    def target(self) -> tuple[int, ...]:
        """Spatial sizes of the output."""
        return tuple(output_space(self.space, self.window, self.stride, self.widths, self.dilation))

    def is_product(self) -> bool:
        """Whether it is a matrix product over the channels, position by position."""
        return self.groups == 1 and {*self.window} == {1} and not any(map(any, self.widths))


def conv_by_onednn(
    x: Real[Array, "b *space c_in"],
    kernel: Real[Array, "*window c_group c_out"],
    stride: Sequence[int],
    widths: Widths,
    dilation: Sequence[int],
    groups: int = 1,
) -> Float[Array, "b *space_out c_out"]:
    """The `dlcore.nn.conv` of an input padded by zeros of `widths`."""
    x, kernel = promoted("conv", x, kernel)
    sides = tuple((low, high) for low, high in widths)
    geometry = Geometry(x.shape[1:-1], kernel.shape[:-2], tuple(stride), sides, tuple(dilation), groups)
    if geometry.is_product():  # of the positions that a window of one cell sees
        x = x[(slice(None), *(slice(None, None, s) for s in stride))]
        geometry = geometry._replace(space=x.shape[1:-1], stride=(1,) * len(stride))
    return _value(x, kernel, geometry)


def computes(dtype: Any) -> bool:
    """Whether oneDNN is there, and computes in this dtype; compiles it at the first call."""
    return dtype in (jnp.float32, jnp.bfloat16, jnp.float16) and onednn_library.available()


def _plain_value(x: Array, kernel: Array, geometry: Geometry) -> Array:
    g = geometry
    if g.is_product():
        return product(x, kernel.reshape(kernel.shape[-2:]))
    return conv_by_xla(x, kernel, g.stride, g.widths, g.dilation, g.groups)


def _plain_input(dy: Array, kernel: Array, geometry: Geometry) -> Array:
    x = jax.ShapeDtypeStruct((dy.shape[0], *geometry.space, kernel.shape[-2] * geometry.groups), dy.dtype)
    return jax.linear_transpose(lambda x: _plain_value(x, kernel, geometry), x)(dy)[0]


def _plain_kernel(x: Array, dy: Array, geometry: Geometry) -> Array:
    kernel = jax.ShapeDtypeStruct((*geometry.window, x.shape[-1] // geometry.groups, dy.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _plain_value(x, kernel, geometry), kernel)(dy)[0]


# Shapes of results: the batch may be a symbol, in a program that is exported.
def _shape_of_value(x: Any, kernel: Any, g: Geometry) -> tuple[Any, ...]:
    return x.shape[0], *g.target(), kernel.shape[-1]


def _shape_of_input(dy: Any, kernel: Any, g: Geometry) -> tuple[Any, ...]:
    return dy.shape[0], *g.space, kernel.shape[-2] * g.groups


def _shape_of_kernel(x: Any, dy: Any, g: Geometry) -> tuple[Any, ...]:
    return *g.window, x.shape[-1] // g.groups, dy.shape[-1]


VALUE, INPUT, KERNEL = "conv_value", "conv_input", "conv_kernel"
"""Names of the primitives, and of the functions of the library."""
PLAIN = {VALUE: _plain_value, INPUT: _plain_input, KERNEL: _plain_kernel}
SHAPES = {VALUE: _shape_of_value, INPUT: _shape_of_input, KERNEL: _shape_of_kernel}


def multiplications(name: str, operands: Sequence[Any], geometry: Geometry) -> int:
    """Multiply–adds of the primitive of this name: the same for the value and both gradients."""
    first, second = (x if hasattr(x, "shape") else x.aval for x in operands)
    kernel = SHAPES[KERNEL](first, second, geometry) if name == KERNEL else second.shape
    return first.shape[0] * math.prod(geometry.target()) * math.prod(kernel)


def _parts(name: str, operands: Sequence[Any], out: Any, geometry: Geometry) -> int:
    """Into how many parts of whole images to cut the batch, by shapes alone: the sums' order depends on it."""
    images, part = operands[0].shape[0], PART
    if geometry.is_product():  # parts are blocks of the result
        images = MOST_PARTS
    elif name == KERNEL:  # each part has a sum of its own
        images, part = min(images, images * math.prod(geometry.target()) // POSITIONS), 4 * PART
    most = min(images, MOST_PARTS, multiplications(name, operands, geometry) // part)
    return 2 ** max(0, most.bit_length() - 1)


def _define(name: str) -> Primitive:
    primitive, plain = Primitive(name), PLAIN[name]
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="geometry"))
    primitive.def_abstract_eval(
        lambda a, b, *, geometry: a.update(shape=SHAPES[name](a, b, geometry), dtype=a.dtype, weak_type=False)
    )
    mlir.register_lowering(primitive, mlir.lower_fun(plain, multiple_results=False))
    mlir.register_lowering(primitive, functools.partial(_lower, name, plain), platform="cpu")
    batching.primitive_batchers[primitive] = functools.partial(_batched, primitive)
    return primitive


def _lower(name: str, plain: Callable[..., Array], context: Any, *operands: Any, geometry: Geometry) -> Any:
    """A call of oneDNN, or XLA's convolution in a program that leaves this process or that the compiler splits."""
    dtype, out = context.avals_in[0].dtype, context.avals_out[0]
    empty = 0 in (*context.avals_in[0].shape, *context.avals_in[1].shape, *out.shape)
    if empty or _split_or_exported(context.module_context) or not computes(dtype):
        return mlir.lower_fun(plain, multiple_results=False)(context, *operands, geometry=geometry)
    numbers = functools.partial(np.array, dtype=np.int64)
    attributes = {
        "stride": numbers(geometry.stride),
        "dilation": numbers(geometry.dilation),
        "low": numbers([low for low, _ in geometry.widths]),
        "high": numbers([high for _, high in geometry.widths]),
        "groups": np.int64(geometry.groups),
        "parts": np.int64(max(1, _parts(name, context.avals_in, out, geometry))),
        # oneDNN's own gradient of the kernel takes twice as long as a product of patches where it has no AVX-512.
        "patches": np.int64(not onednn_library.avx512()),
    }
    native = dtype == jnp.bfloat16 and onednn_library.bfloat16()
    given = dtype if native else jnp.float32
    result = jax.ShapeDtypeStruct(out.shape, jnp.float32 if name == KERNEL else given)

    if given == dtype == result.dtype:
        return jax.ffi.ffi_lowering(onednn_library.TARGETS[name])(context, *operands, **attributes)

    def call(a: Array, b: Array) -> Array:
        y = jax.ffi.ffi_call(onednn_library.TARGETS[name], result)(a.astype(given), b.astype(given), **attributes)
        return y.astype(dtype)

    return mlir.lower_fun(call, multiple_results=False)(context, *operands)


def _split_or_exported(module: Any) -> bool:
    """Whether a program is exported, or is one for several devices in which each does not see its own part alone."""
    where = module.axis_context
    manual = getattr(where, "manual_axes", None)
    mesh = getattr(where, "mesh", None)
    devices = getattr(where, "num_devices", None) or 1
    split = devices > 1 if mesh is None else frozenset(mesh.axis_names) != manual
    return module.lowering_parameters.for_export or split


def _varying(x: Array) -> frozenset[Any]:
    """Axes of a `shard_map` over which x differs; their name in JAX has changed."""
    kind = jax.typeof(x)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else getattr(kind, "vma", frozenset())


def _bound(primitive: Primitive, a: Array, b: Array, geometry: Geometry) -> Array:
    """`primitive(a, b)`, where both vary over the same axes of a `shard_map`."""
    axes = [_varying(x) for x in (a, b)]
    if axes[0] != axes[1]:
        a, b = (
            jax.lax.pcast(x, tuple(other - own), to="varying") if other - own else x
            for x, own, other in ((a, *axes), (b, *axes[::-1]))
        )
    return primitive.bind(a, b, geometry=geometry)


def _batched(primitive: Primitive, operands: Sequence[Array], dims: Sequence[Any], *, geometry: Geometry) -> Any:
    """Examples more where only arrays of examples are batched; else one after the other, or a product of stacks."""
    a, b = (x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(operands, dims, strict=True))
    if dims[1] is None and primitive is not conv_kernel_p:
        y = _bound(primitive, a.reshape(-1, *a.shape[2:]), b, geometry)
        return y.reshape(*a.shape[:2], *y.shape[1:]), 0
    if geometry.is_product():
        axes = tuple(None if d is None else 0 for d in dims)
        return jax.vmap(functools.partial(PLAIN[primitive.name], geometry=geometry), axes)(a, b), 0
    whole = [x for x, d in ((a, dims[0]), (b, dims[1])) if d is not None]

    def one(rows: Sequence[Array]) -> Array:
        rows = list(rows)
        first = a if dims[0] is None else rows.pop(0)
        return _bound(primitive, first, b if dims[1] is None else rows.pop(0), geometry)

    return jax.lax.map(one, whole), 0


conv_value_p = _define(VALUE)
conv_input_p = _define(INPUT)
conv_kernel_p = _define(KERNEL)
_value, _input, _kernel = (functools.partial(_bound, p) for p in (conv_value_p, conv_input_p, conv_kernel_p))


def _transposed_in(first: Callable[..., Array], second: Callable[..., Array]) -> tuple[Callable, Callable]:
    """Rules for `ad.defbilinear`: of (cotangent, other operand) for each of the two operands."""
    return (
        lambda ct, a, b, *, geometry: first(ct, b, geometry),
        lambda ct, a, b, *, geometry: second(a, ct, geometry),
    )


ad.defbilinear(conv_value_p, *_transposed_in(_input, _kernel))
ad.defbilinear(conv_input_p, *_transposed_in(_value, lambda dy, ct, g: _kernel(ct, dy, g)))
ad.defbilinear(conv_kernel_p, *_transposed_in(lambda ct, dy, g: _input(dy, ct, g), _value))
