"""Discrete convolution against SciPy, its laws, and the convolution theorem (lecture 13.1–13.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from dlcore.nn import circular_convolve, convolve, correlate, fft_convolve

SHAPES = [((7,), (3,)), ((5,), (4,)), ((2,), (5,)), ((6, 5), (3, 2)), ((4, 4), (1, 3)), ((3, 4, 5), (2, 3, 2))]


def signals(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape)) for shape in shapes]


def test_the_example_of_the_lecture():
    x, k = jnp.asarray([1.0, 2, 3]), jnp.asarray([4.0, 5, 6])
    np.testing.assert_array_equal(convolve(x, k), [4, 13, 28, 27, 18])
    np.testing.assert_array_equal(convolve(x, k, "same"), [13, 28, 27])
    np.testing.assert_array_equal(convolve(x, k, "valid"), [28])
    np.testing.assert_array_equal(correlate(x, k, "valid"), [1 * 4 + 2 * 5 + 3 * 6])


@pytest.mark.sampled
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize(("space", "window"), SHAPES)
def test_scipy_agrees(space, window, mode):
    with jax.enable_x64(True):
        x, k = signals(space, window)
        if mode == "valid" and any(m > n for n, m in zip(space, window, strict=True)):
            with pytest.raises(ValueError, match="does not lie inside"):
                convolve(x, k, mode)
            return
        expected = scipy.signal.convolve(np.asarray(x), np.asarray(k), mode, method="direct")
        np.testing.assert_allclose(convolve(x, k, mode), expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(fft_convolve(x, k, mode), expected, rtol=1e-12, atol=1e-12)
        turned = scipy.signal.correlate(np.asarray(x), np.asarray(k), mode, method="direct")
        np.testing.assert_allclose(correlate(x, k, mode), turned, rtol=1e-12, atol=1e-12)


def test_it_commutes_associates_and_distributes():
    with jax.enable_x64(True):
        a, b, c, d = signals((5, 4), (2, 3), (3, 3), (2, 3))
        np.testing.assert_allclose(convolve(a, b), convolve(b, a), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(convolve(convolve(a, b), c), convolve(a, convolve(b, c)), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(convolve(a, b + d), convolve(a, b) + convolve(a, d), rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_convolution_theorem():
    with jax.enable_x64(True):
        x, y = signals((5, 6), (5, 6))
        found = circular_convolve(x, y)
        loop = sum(x[i, j] * jnp.roll(y, (i, j), (0, 1)) for i in range(5) for j in range(6))
        np.testing.assert_allclose(found, loop, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(np.fft.fft2(found), np.fft.fft2(x) * np.fft.fft2(y), rtol=1e-9, atol=1e-12)


def test_bad_input():
    x = jnp.ones(3)
    with pytest.raises(ValueError, match="as many axes"):
        convolve(x, jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="as many axes"):
        fft_convolve(x, jnp.ones(0))
