"""Causality by the Jacobian: exactly 0 at every future sub-pixel, not 0 at every past one in reach (lecture 26.1)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import GatedPixelCNN, MaskedConv, PixelCNN, causal_mask
from dlcore.nn import compute_in, conv

WINDOWS = {
    "masked_one": (5,),
    "masked": (7, 3),
    "masked_deep": (3, 3, 3, 1),
    "gated": (3, 3),
    "gated_wide": (5, 3, 1),
    "gated_deep": (3, 3, 3, 3),
    "gated_dilated": (3, 3, 3),
}
"""name: window of every layer. The side of the image is 5, so that reach ends inside it for the shallow ones."""

DILATIONS = {"gated_dilated": (1, 2, 1)}


def make(name, colours, features=24):
    windows = WINDOWS[name]
    if name.startswith("masked"):
        return PixelCNN(2, colours=colours, features=features, first=windows[0], windows=windows[1:])
    return GatedPixelCNN(
        2, colours=colours, features=features, windows=windows, dilations=DILATIONS.get(name, ()), hidden=18
    )


def jacobian(network, shape, dtype=jnp.float32, seed=0):
    """|d output of sub-pixel i / d sub-pixel j|, the largest over outputs and eight images: [n, n] in raster order."""
    model = network.model if dtype == jnp.float32 else compute_in(network.model, dtype)
    # Several images: at one, all relus of a colour may be at rest.
    x = jax.random.normal(jax.random.key(seed), (8, *shape))

    @jax.jit
    def start(x):
        params, state = model.init(jax.random.key(1), x)
        # With zero biases relus are left at rest where the image is blank.
        return jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params), state

    params, state = start(x)
    slopes = jax.jacrev(lambda x: model.apply(params, state, x[None])[0][0])
    n = x[0].size
    largest = jax.jit(lambda x: jnp.abs(jax.lax.map(slopes, x)).reshape(len(x), n, -1, n).max((0, 2)))
    return np.asarray(largest(x))


@functools.cache
def found(name, colours, dtype):
    return jacobian(make(name, colours), (5, 5, colours), dtype)


def above(sets, r, c, half, top, d=1):
    """Union of the sets at rows r − half·d … r − top·d and columns c − half·d … c + half·d, every d-th."""
    places = [(r - a * d, c + k * d) for a in range(top, half + 1) for k in range(-half, half + 1)]
    return set().union(*(sets[p] for p in places if p in sets))


def left(sets, r, c, half, d=1):
    return set().union(*(sets[r, c - k * d] for k in range(1, half + 1) if (r, c - k * d) in sets))


def reach(name, side, colours):
    """What every sub-pixel can depend on, counted with sets from the drawings of van den Oord et al. 2016."""
    places, groups = [(r, c) for r in range(side) for c in range(side)], range(colours)
    pixel = {p: {(*p, g) for g in groups} for p in places}
    vertical, horizontal = pixel, {(*p, g): {(*p, g)} for p in places for g in groups}
    for i, window in enumerate(WINDOWS[name]):
        half, first, d = window // 2, i == 0, DILATIONS.get(name, (1,) * 9)[i]
        merged = {p: set().union(*(horizontal[(*p, g)] for g in groups)) for p in places}
        if name.startswith("masked"):
            outside = {p: above(merged, *p, half, 1) for p in places}
        else:
            vertical = {p: above(vertical, *p, half, 1 if first else 0, d) for p in places}
            outside = vertical
        horizontal = {
            (*p, g): outside[p]
            | left(merged, *p, half, d)
            | set().union(*(horizontal[(*p, e)] for e in range(g if first else g + 1)))
            for p in places
            for g in groups
        }
    index = {(*p, g): (p[0] * side + p[1]) * colours + g for p in places for g in groups}
    table = np.zeros((len(index), len(index)), bool)
    for target, sources in horizontal.items():
        table[index[target], [index[source] for source in sources]] = True
    return table


TYPES = {"grey": (1, jnp.float32), "colour": (3, jnp.float32), "colour_bfloat16": (3, jnp.bfloat16)}


def cases(test):
    chosen = [
        pytest.param(
            name, *of_type, id=f"{kind}-{name}", marks=[pytest.mark.slow] if kind != "colour" and "_" in name else []
        )
        for name in WINDOWS
        for kind, of_type in TYPES.items()
    ]
    return pytest.mark.parametrize(("name", "colours", "dtype"), chosen)(test)


@pytest.mark.slow
@cases
def test_the_future_has_no_influence(name, colours, dtype):
    J = found(name, colours, dtype)
    i, j = np.indices(J.shape)
    assert (J[j >= i] == 0.0).all()


@pytest.mark.slow
@cases
def test_influence_is_exactly_the_reach_counted_by_hand(name, colours, dtype):
    expected = reach(name, 5, colours)
    i, j = np.indices(expected.shape)
    assert not expected[j >= i].any() and expected[j < i].any()
    np.testing.assert_array_equal(found(name, colours, dtype) != 0.0, expected)


@pytest.mark.slow
@pytest.mark.parametrize("features", [3, 30])
@pytest.mark.parametrize("kind", ["masked", "gated"])
def test_the_future_has_no_influence_at_any_width(kind, features):
    features = 2 * features if kind == "masked" else features
    J = jacobian(make(kind, 3, features), (4, 4, 3))
    i, j = np.indices(J.shape)
    assert (J[j >= i] == 0.0).all() and (J[j < i] != 0).any()


@pytest.mark.slow
@pytest.mark.parametrize("colours", [1, 3])
def test_the_gated_network_sees_all_of_the_past_in_reach(colours):
    J = jacobian(GatedPixelCNN(2, colours=colours, features=24, windows=(3, 3, 3)), (4, 4, colours))
    # Three layers reach three pixels in every direction that lies in the past.
    i, j = np.indices(J.shape)
    assert (J[j < i] != 0.0).all()


@pytest.mark.slow
def test_reach_of_one_gated_layer_by_hand():
    J = jacobian(GatedPixelCNN(1, features=8, windows=(5,)), (7, 7, 1))
    seen = {divmod(j, 7) for j in np.flatnonzero(J[3 * 7 + 3])}
    assert seen == {(r, c) for r in (1, 2) for c in range(1, 6)} | {(3, 1), (3, 2)}


@pytest.mark.slow
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
    for dilations in [(2, 1), (1,), (1, 0)]:
        with pytest.raises(ValueError, match="dilations must be one per window"):
            GatedPixelCNN(1, windows=(7, 3), dilations=dilations)


@pytest.mark.slow
def test_a_label_moves_every_output():
    network = GatedPixelCNN(1, features=8, windows=(3, 3), classes=3)
    x, y = jnp.zeros((2, 4, 4, 1)), jnp.asarray([0, 2])
    params, _ = network.model.init(jax.random.key(0), x, y)
    params = jax.tree.map(lambda p: p + 0.1 * jax.random.normal(jax.random.key(p.size), p.shape), params)
    out, _ = network.model.apply(params, {}, x, y)
    assert (out[0] != out[1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["A", "B"])
@pytest.mark.parametrize(("window", "colours"), [(1, 1), (5, 1), (3, 3)])
def test_masked_convolution_is_a_whole_convolution_with_the_masked_kernel(window, colours, kind):
    inputs, features = 2 * colours, 4 * colours
    model = MaskedConv(features, window, colours=colours, kind=kind)
    x = jax.random.normal(jax.random.key(0), (2, 6, 5, inputs))
    params, _ = model.init(jax.random.key(1), x)
    mask = causal_mask(window, inputs, features, colours, kind)
    expected = conv(x, params["kernel"] * mask, params["bias"], padding="zero")
    np.testing.assert_allclose(model.apply(params, {}, x)[0], expected, rtol=1e-5, atol=1e-5)


def test_bad_masks():
    with pytest.raises(ValueError, match="mask must be A or B"):
        causal_mask(3, 1, 1, 1, "C")
