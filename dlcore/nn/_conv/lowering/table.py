"""Which way a convolution is computed, by backend and shape: one table, and one override (lecture 14.1–14.5).

The thresholds in this room were measured on two cores of an AMD EPYC (Zen 3, AVX2), those of `taps`, `patches` and
`shifts` on an Intel Xeon of two cores too.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
from jaxtyping import Array, Float, Real

from dlcore.backend import on_cpu, on_one_device
from dlcore.lookup import lookup
from dlcore.nn._conv.lowering import onednn_library
from dlcore.nn._conv.lowering.onednn import computes, conv_by_onednn
from dlcore.nn._conv.lowering.patches import conv_by_patches, few_positions
from dlcore.nn._conv.lowering.shifts import conv_by_shifts, many_products
from dlcore.nn._conv.lowering.sums import conv_by_sums, few_outputs, takes_sums
from dlcore.nn._conv.lowering.taps import conv_by_taps, few_terms
from dlcore.nn._conv.lowering.xla import Widths, conv_by_xla
from dlcore.nn._dtypes import promoted
from dlcore.nn._product import row_product


class Problem(NamedTuple):
    """A convolution of an input padded by zeros of `widths`."""

    x: Array
    kernel: Array
    stride: Sequence[int]
    widths: Widths
    dilation: Sequence[int]
    groups: int


class Way(NamedTuple):
    """One way to compute it."""

    takes: Callable[[Problem], bool]
    """Whether it can."""
    pays: Callable[[Problem], bool]
    """Whether it is the fastest, those above it in the table apart."""
    compute: Callable[[Problem], Array]


FEW_TERMS = 16
"""Products per output up to which one input channel is better off tap by tap than in oneDNN."""

MANY = 2**20
"""Multiply–adds from which on a call of oneDNN pays."""


def _is_product(p: Problem) -> bool:
    return math.prod(p.kernel.shape[:-2]) == 1 and p.groups == 1 and not any(map(any, p.widths))


def _product(p: Problem) -> Array:
    seen = p.x[(slice(None), *(slice(None, None, s) for s in p.stride))]
    return row_product(seen, p.kernel.reshape(p.kernel.shape[-2:]))


def _rows_times(x: Array, kernel: Array) -> Array:
    """[b, *space, n] @ [n, m] by the way that the table gives a convolution with a window of one cell."""
    ones = (1,) * (x.ndim - 2)
    return convolution(x, kernel.reshape(*ones, *kernel.shape), ones, ((0, 0),) * len(ones), ones, 1)


def _stands_alone(p: Problem) -> Problem:
    """The gradient of the kernel reads x moved or transposed. Without the barrier XLA computes there, cell by cell and
    out of order, everything between the last convolution and x a second time."""
    return p._replace(x=jax.lax.optimization_barrier(p.x))


def _few_positions(p: Problem) -> bool:
    return p.groups == 1 and few_positions(*p[:5])


def _onednn_pays(p: Problem) -> bool:
    if not (on_cpu() and on_one_device()) or (_few_positions(p) and not _is_product(p)):
        return False
    terms = math.prod(p.kernel.shape[:-1])
    few = p.groups == 1 and p.kernel.shape[-2] == 1 and terms <= FEW_TERMS
    return not few and len(p.x) * p.kernel.size * math.prod(p.x.shape[1:-1]) >= MANY and computes(p.x.dtype)


WAYS: Mapping[str, Way] = {
    "sums": Way(
        lambda p: takes_sums(p.stride, p.groups) and not _is_product(p),
        lambda p: on_cpu() and not _is_product(p) and few_outputs(p.kernel, p.stride, p.groups),
        lambda p: conv_by_sums(*p[:2], p.widths, p.dilation, product=_rows_times),
    ),
    "onednn": Way(lambda p: computes(p.x.dtype), _onednn_pays, lambda p: conv_by_onednn(*p)),
    "product": Way(_is_product, _is_product, _product),
    "taps": Way(lambda p: True, lambda p: on_cpu() and few_terms(p.kernel, p.groups), lambda p: conv_by_taps(*p)),
    "patches": Way(
        lambda p: p.groups == 1 and not _is_product(p),
        lambda p: on_cpu() and _few_positions(p),
        lambda p: conv_by_patches(*p[:5], product=_rows_times),
    ),
    "shifts": Way(
        lambda p: p.x.ndim == 4 and p.groups == 1 and {*p.stride, *p.dilation} == {1},
        lambda p: on_cpu() and many_products(p.x, p.kernel, p.stride, p.dilation, p.groups),
        lambda p: conv_by_shifts(*_stands_alone(p)[:2], p.widths),
    ),
    "xla": Way(
        lambda p: True,
        lambda p: True,
        lambda p: conv_by_xla(*(_stands_alone(p) if on_cpu() else p)),
    ),
}
"""In the order in which they are tried."""

AUTO = "auto"
OVERRIDE = "DLCORE_CONV"
"""Environment variable: the one way to compute convolutions, where it can, or "auto", or "-onednn": all but one."""


def _known(name: str) -> str:
    """This name, if it is one of a way, of all but one, or "auto"."""
    if name != AUTO:
        lookup("way to compute convolutions", name.removeprefix("-"), WAYS)
    return name


_chosen = [_known(os.environ.get(OVERRIDE) or AUTO)]


@contextlib.contextmanager
def convolutions_by(name: str) -> Iterator[None]:
    """Functions traced inside compute convolutions by this way of `WAYS` where it can; others by the table.

    "auto" is the table, and "-onednn" the table without that way. For tests and benchmarks; what `jax.jit` has traced
    before keeps its way.
    """
    _chosen.append(_known(name))
    try:
        yield
    finally:
        _chosen.pop()


def way_of(p: Problem) -> str:
    """The name of the way in which this convolution is computed."""
    chosen = _chosen[-1]
    if chosen in WAYS and WAYS[chosen].takes(p):
        return chosen
    return next(name for name, way in WAYS.items() if name != chosen.removeprefix("-") and way.pays(p))


def how_convolutions_go() -> str:
    """How convolutions are computed here, in words; compiles oneDNN's at the first call."""
    if _chosen[-1] != AUTO:
        return f"as {OVERRIDE}={_chosen[-1]} says"
    if not on_cpu():
        return "by XLA"
    if reason := onednn_library.status():
        return f"by XLA and matrix products, without oneDNN: {reason}"
    return "by oneDNN where it is faster" + ("" if on_one_device() else ", but for one device only: here without it")


def convolution(
    x: Real[Array, "b *space c_in"],
    kernel: Real[Array, "*window c_group c_out"],
    stride: Sequence[int],
    widths: Widths,
    dilation: Sequence[int],
    groups: int,
) -> Float[Array, "b *space_out c_out"]:
    """The `dlcore.nn.conv` of an input padded by zeros of `widths`, by the way that the table gives."""
    problem = Problem(*promoted("conv", x, kernel), stride, widths, dilation, groups)
    return WAYS[way_of(problem)].compute(problem)
