"""Causality by the Jacobian: exactly 0 at every future sub-pixel, not 0 at every past one in reach (lecture 26.1)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks.pixelcnn import GatedPixelCNN, PixelCNN, causal_mask
from dlcore.nn.combine import compute_in

NETWORKS = {
    "masked": lambda colours, **o: PixelCNN(2, colours=colours, **{"features": 12, "windows": (3,), **o}),
    "masked_deep": lambda colours, **o: PixelCNN(2, colours=colours, features=24, first=3, windows=(3, 3, 1)),
    "gated": lambda colours, **o: GatedPixelCNN(2, colours=colours, **{"features": 12, "windows": (3, 3), **o}),
    "gated_wide": lambda colours, **o: GatedPixelCNN(2, colours=colours, features=24, windows=(5, 3, 1), hidden=18),
}


def jacobian(network, shape, dtype=jnp.float32, seed=0):
    """|d output of sub-pixel i / d sub-pixel j|, largest over the outputs of i: [n, n] in raster order."""
    model = network.model if dtype == jnp.float32 else compute_in(network.model, dtype)
    x = jax.random.normal(jax.random.key(seed), (1, *shape))
    params, state = model.init(jax.random.key(1), x)
    # A start with zero biases leaves relus at rest where the image is blank.
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params)
    full = jax.jacrev(lambda x: model.apply(params, state, x[None])[0][0])(x[0])
    n = x[0].size
    return np.abs(np.asarray(full)).reshape(n, -1, n).max(1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_future_has_no_influence(name, colours, dtype):
    J = jacobian(NETWORKS[name](colours), (5, 5, colours), dtype)
    i, j = np.indices(J.shape)
    assert (J[j >= i] == 0.0).all()
    assert (J[j < i] != 0).any()


@pytest.mark.parametrize("colours", [1, 3])
def test_the_gated_network_sees_all_of_the_past_in_reach(colours):
    J = jacobian(GatedPixelCNN(2, colours=colours, features=24, windows=(3, 3, 3)), (4, 4, colours))
    # Three layers reach three pixels in every direction that lies in the past.
    i, j = np.indices(J.shape)
    assert (J[j < i] != 0.0).all()


def test_reach_of_one_gated_layer_by_hand():
    J = jacobian(GatedPixelCNN(1, features=8, windows=(5,)), (7, 7, 1))
    seen = {divmod(j, 7) for j in np.flatnonzero(J[3 * 7 + 3])}
    assert seen == {(r, c) for r in (1, 2) for c in range(1, 6)} | {(3, 1), (3, 2)}


def test_stacked_masks_have_a_blind_spot_and_the_gated_stacks_have_none():
    site = 4 * 9 + 4
    above_right = 3 * 9 + 4 + 3
    masked = jacobian(PixelCNN(1, features=16, first=3, windows=(3,) * 3), (9, 9, 1))[site]
    gated = jacobian(GatedPixelCNN(1, features=16, windows=(3,) * 4), (9, 9, 1))[site]
    assert masked[above_right] == 0.0 and gated[above_right] > 0


def test_mask_by_hand():
    mask = causal_mask(3, 3, 3, 3, "A")
    assert mask[:1].all() and mask[1, 0].all() and not mask[1, 2].any() and not mask[2].any()
    np.testing.assert_array_equal(mask[1, 1], [[0, 1, 1], [0, 0, 1], [0, 0, 0]])
    np.testing.assert_array_equal(causal_mask(1, 3, 3, 3, "B")[0, 0], [[1, 1, 1], [0, 1, 1], [0, 0, 1]])
    with pytest.raises(ValueError, match="must be odd"):
        causal_mask(4, 1, 1, 1, "A")
    with pytest.raises(ValueError, match="multiple of 3"):
        causal_mask(3, 4, 6, 3, "A")


def test_bad_windows():
    with pytest.raises(ValueError, match="windows must be odd"):
        GatedPixelCNN(1, windows=(7, 2))


def test_a_label_moves_every_output():
    network = GatedPixelCNN(1, features=8, windows=(3, 3), classes=3)
    x, y = jnp.zeros((2, 4, 4, 1)), jnp.asarray([0, 2])
    params, _ = network.model.init(jax.random.key(0), x, y)
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params)
    out, _ = network.model.apply(params, {}, x, y)
    assert (out[0] != out[1]).all()
