"""Padding "same" is what Flax means by it, also where a stride makes it uneven (lecture 14.4, 14.6)."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from dlcore.nn import avg_pool, conv, conv_by_blocks, max_pool, pad_widths

RNG = np.random.default_rng(0)
CASES = [(n, window, stride) for n in (7, 8) for window in (1, 2, 3) for stride in (1, 2, 3)]


def by_hand(n, window, stride):
    """Cells before and behind: ⌈n/stride⌉ positions, what is left over halved, the odd one behind."""
    rest = window if n % stride == 0 else window + stride - n % stride
    total = max(rest - stride, 0)
    return total // 2, total - total // 2


@pytest.mark.parametrize(("n", "window", "stride"), CASES)
def test_widths_by_hand(n, window, stride):
    assert pad_widths([n], [window], [stride], [1], "same") == [by_hand(n, window, stride)]


@pytest.mark.sampled
@pytest.mark.parametrize(("n", "window", "stride"), [(7, 3, 2), (8, 3, 2), (8, 2, 1), (8, 3, 3)])
def test_convolution_and_pools_of_flax(n, window, stride):
    x = jnp.asarray(RNG.normal(size=(2, n, n + 1, 3)), jnp.float32)
    kernel = jnp.asarray(RNG.normal(size=(window, window, 3, 4)), jnp.float32)
    layer = nn.Conv(4, (window, window), stride, padding="SAME", use_bias=False)
    expected = layer.apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(conv(x, kernel, stride=stride, padding="same"), expected, rtol=1e-4, atol=1e-5)
    if window % stride == 0:
        np.testing.assert_allclose(conv_by_blocks(x, kernel, stride, "same"), expected, rtol=1e-4, atol=1e-5)
    options = {"strides": (stride, stride), "padding": "SAME"}
    largest, mean = (
        nn.max_pool(x, (window, window), **options),
        nn.avg_pool(x, (window, window), **options, count_include_pad=False),
    )
    np.testing.assert_array_equal(max_pool(x, window, stride=stride, padding="same"), largest)
    np.testing.assert_allclose(avg_pool(x, window, stride=stride, padding="same"), mean, rtol=1e-5, atol=1e-6)


def test_where_it_is_even_it_is_the_same_of_scipy():
    x, kernel = RNG.normal(size=9), RNG.normal(size=3)
    ours = conv(
        jnp.asarray(x, jnp.float32)[None, :, None], jnp.asarray(kernel, jnp.float32)[:, None, None], padding="same"
    )
    np.testing.assert_allclose(ours[0, :, 0], scipy.signal.correlate(x, kernel, "same"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "mode"), [("reflect", "reflect"), ("circular", "wrap")])
def test_the_names_of_other_libraries_for_mirror_and_periodic(name, mode):
    x = jnp.asarray(RNG.normal(size=(1, 6, 5, 2)), jnp.float32)
    kernel = jnp.asarray(RNG.normal(size=(3, 3, 2, 2)), jnp.float32)
    padded = jnp.asarray(np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode))
    expected = conv(padded, kernel, padding="valid")
    np.testing.assert_allclose(conv(x, kernel, padding=name), expected, rtol=1e-4, atol=1e-5)
