"""Convolutions to few channels as sums of moved products against the definition, cell by cell (lecture 14.1–14.5)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from way_seconds import way_seconds

from dlcore.nn import conv
from dlcore.nn._conv.lowering import table
from dlcore.nn._conv.lowering.sums import conv_by_sums, few_outputs

CASES = [
    # x, window, outputs, zeros around, dilation
    ((3, 9, 4), (3,), 2, ((1, 2),), (1,)),
    ((2, 11, 3), (2,), 1, ((0, 3),), (4,)),
    ((2, 6, 7, 8), (3, 3), 1, ((1, 1), (1, 1)), (1, 1)),
    ((2, 6, 5, 3), (3, 2), 3, ((2, 0), (0, 1)), (1, 2)),
    ((2, 5, 6, 2), (4, 1), 2, ((3, 3), (0, 0)), (1, 1)),
    ((2, 4, 5, 3, 2), (2, 3, 2), 1, ((1, 0), (1, 1), (0, 1)), (1, 1, 2)),
]


def by_cells(x, kernel, dy, widths, dilation):
    """The value, and the gradients of input and kernel for the cotangent dy(shape), product by product."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    padded = np.pad(x, [(0, 0), *widths, (0, 0)])
    window = kernel.shape[:-2]
    space = [n - (w - 1) * d for n, w, d in zip(padded.shape[1:-1], window, dilation, strict=True)]
    y = np.zeros((len(x), *space, kernel.shape[-1]))
    slope, dx, dkernel = dy(y.shape), np.zeros(padded.shape), np.zeros(kernel.shape)
    for p in np.ndindex(*space):
        for tap in np.ndindex(*window):
            cell = (slice(None), *(i + t * d for i, t, d in zip(p, tap, dilation, strict=True)))
            y[(slice(None), *p)] += padded[cell] @ kernel[tap]
            dx[cell] += slope[(slice(None), *p)] @ kernel[tap].T
            dkernel[tap] += padded[cell].T @ slope[(slice(None), *p)]
    inner = tuple(slice(low, low + n) for (low, _), n in zip(widths, x.shape[1:-1], strict=True))
    return y, dx[(slice(None), *inner)], dkernel, slope


def draw(shape, window, outputs):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(*window, shape[-1], outputs))
    return jnp.asarray(rng.normal(size=shape), jnp.float32), jnp.asarray(kernel, jnp.float32)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_the_definitions(case):
    shape, window, outputs, *options = case
    x, kernel = draw(shape, window, outputs)
    rng = np.random.default_rng(1)
    y, dx, dkernel, dy = by_cells(x, kernel, lambda shape: rng.normal(size=shape), *options)
    found, back = jax.vjp(lambda x, k: conv_by_sums(x, k, *options), x, kernel)
    for array, exact in zip((found, *back(jnp.asarray(dy, jnp.float32))), (y, dx, dkernel), strict=True):
        np.testing.assert_allclose(array, exact, rtol=1e-5, atol=1e-5)


def test_half_precision_is_rounded_once():
    x, kernel = (array.astype(jnp.bfloat16) for array in draw((2, 6, 6, 64), (3, 3), 1))
    found = conv_by_sums(x, kernel, ((1, 1), (1, 1)), (1, 1))
    exact = by_cells(x, kernel, np.zeros, ((1, 1), (1, 1)), (1, 1))[0]
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), exact, rtol=2.0**-8, atol=1e-4)


def test_it_is_taken_for_few_outputs_alone():
    def way(channels, outputs, window=3, stride=1, groups=1):
        x, kernel = draw((2, 8, 8, channels), (window, window), outputs)
        problem = table.Problem(x, kernel[:, :, : channels // groups], (stride,) * 2, ((1, 1),) * 2, (1, 1), groups)
        return table.way_of(problem)

    assert way(16, 1) == way(16, 3) == way(8, 1, window=5) == "sums"
    others = [way(16, 4), way(4, 1), way(16, 2, window=5), way(16, 1, stride=2), way(16, 2, groups=2)]
    assert "sums" not in others
    assert not few_outputs(jnp.zeros((3, 3, 8, 2)), (1, 1), 2)


def test_the_layer_takes_it_and_is_the_same():
    x, kernel = draw((2, 8, 8, 16), (3, 3), 1)
    found = conv(x, kernel)
    np.testing.assert_allclose(found, by_cells(x, kernel, np.zeros, ((1, 1),) * 2, (1, 1))[0], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(128, 28, 28, 32), (32, 32, 32, 32)], ids=str)
def test_faster_than_xlas(shape):
    ours, theirs = way_seconds({"shape": shape, "window": 3, "outputs": 1, "groups": 1, "of": (0, 1)}, "auto", "xla")
    print(f"gradients {theirs / ours:.1f} times as fast as XLA's convolution")
    assert 1.3 * ours < theirs
