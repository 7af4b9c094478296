"""A convolution times x is its dense matrix times x, for every option (lecture 14.1–14.5, 14.8)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from dlcore.nn import conv, conv_matrix, count_connections

CASES = {
    "plain": ((5, 6), (3, 3), (2, 3), {}),
    "valid": ((5, 6), (3, 2), (1, 2), {"padding": "valid"}),
    "strided": ((7, 6), (3, 3), (2, 2), {"stride": (2, 3)}),
    "dilated": ((7, 8), (3, 2), (2, 2), {"dilation": (2, 3), "padding": 1}),
    "mirror": ((6, 5), (3, 4), (1, 2), {"padding": "mirror"}),
    "periodic": ((6, 5), (4, 3), (2, 1), {"padding": "periodic", "stride": 2}),
    "groups": ((4, 4), (3, 3), (4, 6), {"groups": 2}),
    "depthwise": ((4, 5), (2, 2), (3, 3), {"groups": 3, "padding": [(1, 0), (0, 2)]}),
    "one_axis": ((9,), (4,), (2, 3), {"stride": 2, "padding": "mirror"}),
    "three_axes": ((3, 4, 3), (2, 3, 2), (1, 2), {}),
}


def kernel_of(window, channels, groups=1, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((*window, channels[0] // groups, channels[1])))


@pytest.mark.sampled
@pytest.mark.parametrize("name", CASES)
def test_the_matrix_is_the_convolution(name):
    space, window, channels, options = CASES[name]
    with jax.enable_x64(True):
        kernel = kernel_of(window, channels, options.get("groups", 1))
        x = jnp.asarray(np.random.default_rng(1).standard_normal((2, *space, channels[0])))
        both = jax.jit(lambda x, kernel: (conv(x, kernel, **options), conv_matrix(kernel, space, **options)))
        y, matrix = map(np.asarray, both(x, kernel))
        np.testing.assert_allclose(np.asarray(x).reshape(2, -1) @ matrix.T, y.reshape(2, -1), rtol=1e-12, atol=1e-12)
        counts = count_connections(window, channels, space, **options)
        assert counts.parameters == kernel.size and counts.dense == matrix.size
        if options.get("padding") not in ("mirror", "periodic"):
            assert counts.connections == np.count_nonzero(matrix)


def test_in_one_dimension_it_is_toeplitz_or_circulant():
    kernel = jnp.asarray([1.0, 2.0, 3.0]).reshape(3, 1, 1)
    np.testing.assert_array_equal(
        conv_matrix(kernel, (5,)), scipy.linalg.toeplitz([2.0, 1, 0, 0, 0], [2.0, 3, 0, 0, 0])
    )
    np.testing.assert_array_equal(
        conv_matrix(kernel, (5,), padding="periodic"), scipy.linalg.circulant([2.0, 1, 0, 0, 3])
    )


def test_counts_by_hand():
    # 28×28 to 28×28 by a 3×3 window: 9 weights; every border row and column loses a third of its products.
    counts = count_connections((3, 3), (1, 1), (28, 28))
    assert counts == (9, (3 * 28 - 2) ** 2, 784**2)


def test_what_a_convolution_refuses_the_matrix_refuses():
    for padding in ("mirror", "periodic"):
        with pytest.raises(ValueError, match=f"{padding} padding by 4 needs more than the 3 cells"):
            conv_matrix(jnp.ones((9, 1, 1)), (3,), padding=padding)
    with pytest.raises(ValueError, match="groups=2 must divide the 2 channels in and the 3 out"):
        conv_matrix(jnp.ones((3, 1, 3)), (5,), groups=2)
    with pytest.raises(ValueError, match="groups=2 must divide the 3 channels in"):
        count_connections((3,), (3, 2), (5,), groups=2)
