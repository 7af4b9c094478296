"""Receptive fields by formula are those by gradient (lecture 14.8)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.nn import AvgPool, Conv, Layer, extent, influence, receptive_field, serial

CHAINS = {
    "two_3x3_see_5": ([Layer(3, padding=1), Layer(3, padding=1)], (5, 1, -2)),
    "strided": (
        [Layer(5, 2, padding=2), Layer(3, 2, padding=1), Layer(3, padding=1)],
        (5 + 2 * 2 + 2 * 4, 4, -2 - 2 - 4),
    ),
    "dilated": ([Layer(3, padding=1), Layer(3, dilation=2, padding=2), Layer(3, dilation=4, padding=4)], (15, 1, -7)),
    "pooled": ([Layer(3, padding=1), Layer(2, 2), Layer(3, padding=1)], (3 + 1 + 4, 2, -1 - 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHAINS)
def test_formula_is_gradient(name):
    layers, by_hand = CHAINS[name]
    field = receptive_field(layers)
    assert field == by_hand
    parts = [
        AvgPool(layer.window) if layer.stride == layer.window else
        Conv(2, layer.window, stride=layer.stride, dilation=layer.dilation, padding=layer.padding)
        for layer in layers
    ]  # fmt: skip
    net, x = serial(*parts), jnp.ones((1, 40, 40, 1))
    params, state = net.init(jax.random.key(0), x)
    apply = jax.jit(lambda x: net.apply(params, state, x)[0])
    for site in [(4, 5), (0, 0)]:
        seen = np.asarray(influence(apply, x, site, key=jax.random.key(1)) > 0)
        starts = [field.start + i * field.jump for i in site]
        assert extent(seen) == [(max(s, 0), s + field.size - 1) for s in starts]
        assert seen.sum() == np.prod([min(s, 0) + field.size for s in starts])


def test_bad_input():
    with pytest.raises(ValueError, match="at least 1"):
        receptive_field([Layer(3, stride=0)])
    with pytest.raises(ValueError, match="nothing is seen"):
        extent(np.zeros((2, 2), bool))
