"""Conditioners start at zero, keep the shape, and depend on their whole neighbourhood (lecture 28.1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import ConvConditioner, MLPConditioner


@pytest.mark.parametrize(
    ("model", "shape", "outputs"),
    [(ConvConditioner(6, 4, blocks=2), (2, 5, 5, 3), (2, 5, 5, 4)), (MLPConditioner((7, 6), 4), (2, 3), (2, 4))],
)
def test_outputs_are_zero_at_the_start_and_have_a_gradient(model, shape, outputs):
    x = jax.random.normal(jax.random.key(1), shape)
    params, state = jax.jit(model.init)(jax.random.key(0), x)
    assert state == {} or not jax.tree.leaves(state)
    y = model.apply(params, state, x)[0]
    np.testing.assert_array_equal(y, np.zeros(outputs))
    gradient = jax.grad(lambda params: model.apply(params, state, x)[0].sum())(params)
    assert any(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
def test_a_convolutional_conditioner_sees_one_pixel_further_per_layer():
    model, x = ConvConditioner(8, 2, blocks=1), jax.random.normal(jax.random.key(1), (1, 11, 11, 1))
    params, state = jax.jit(model.init)(jax.random.key(0), x)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    params = jax.tree.unflatten(tree, [jax.random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)])
    gradient = jax.grad(lambda x: model.apply(params, state, x)[0][0, 5, 5].sum())(x)[0, :, :, 0]
    reached = np.argwhere(np.asarray(gradient) != 0)
    # Stem, one block, head: three 3×3 convolutions.
    assert reached.min() == 2 and reached.max() == 8
