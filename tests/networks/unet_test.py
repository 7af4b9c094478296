"""U-Nets, of images alone and told a time: shapes, what depends on what, patches, embedding (lecture 25, 29.3)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.networks import _unet as unet
from dlcore.nn import activations, depth_to_space, space_to_depth, summarize


def inputs(size, channels=1, n=2):
    x = jax.random.normal(jax.random.key(1), (n, size, size, channels))
    return x, jnp.array([3, 700][:n]), jnp.array([0, 2][:n])


def woken(params):
    """Params with noise added, so that layers that start at zero let something through."""
    rng = np.random.default_rng(9)
    return jax.tree.map(lambda p: p + 0.1 * rng.normal(size=p.shape).astype(np.float32), params)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "options"),
    [
        (8, {"widths": (8, 16)}),
        (28, {"widths": (4, 8), "patch": 2, "heads": 2}),
        (28, {"widths": (4, 4, 8), "blocks": 2}),
        (8, {"widths": (6,), "dropout": 0.1}),
    ],
)
def test_output_is_like_the_input_and_starts_at_zero(size, options):
    net, given = unet.TimeUNet(3, classes=3, **options), inputs(size, 3)
    params, state = jax.jit(net.init)(jax.random.key(0), *given)
    out = jax.jit(lambda p: net.apply(p, state, *given, train=True, key=jax.random.key(2))[0])
    assert out(params).shape == given[0].shape and not out(params).any()
    assert np.asarray(out(woken(params))).std() > 0.01


@pytest.mark.slow
def test_time_label_and_every_pixel_matter_each_example_by_itself():
    net, (x, t, label) = unet.TimeUNet(1, (4, 8), classes=3, heads=2), inputs(8)
    params, state = jax.jit(net.init)(jax.random.key(0), x, t, label)
    run = jax.jit(lambda *given: net.apply(woken(params), state, *given)[0])
    base = run(x, t, label)
    others = (x, t.at[0].set(4), label), (x, t, label.at[0].set(3)), (x.at[0, 7, 7].add(1.0), t, label)
    for changed in (run(*given) for given in others):
        assert (jnp.abs(changed[0] - base[0]) > 1e-6).all()
        np.testing.assert_allclose(changed[1], base[1], atol=1e-6)
    assert not np.allclose(run(x[::-1], t[::-1], label[::-1])[::-1] - base, 1e-3)


@pytest.mark.slow
def test_every_param_gets_a_gradient_once_awake():
    net, given = unet.TimeUNet(1, (4, 8), classes=3, heads=2, blocks=2, patch=2), inputs(8)
    params, state = jax.jit(net.init)(jax.random.key(0), *given)
    grads = jax.jit(jax.grad(lambda p: jnp.square(net.apply(p, state, *given)[0]).sum()))(woken(params))
    still = [jax.tree_util.keystr(p) for p, g in jax.tree_util.tree_leaves_with_path(grads) if not np.abs(g).any()]
    assert not still


@pytest.mark.slow
def test_resolutions_and_skips_by_path():
    net, given = unet.TimeUNet(1, (4, 8), patch=2), inputs(28)[:2]
    params, state = jax.jit(net.init)(jax.random.key(0), *given)
    shapes = {path: value.shape for path, value in activations(net, params, state, *given)[1].items()}
    assert shapes["down_0_0"] == (2, 14, 14, 4) and shapes["middle"] == (2, 7, 7, 8)
    assert shapes["up_1_0"] == (2, 7, 7, 8) and shapes["up_0_0"] == (2, 14, 14, 4)
    assert params["up_0_0"]["conv_1"]["kernel"].shape == (3, 3, 12, 4)
    assert "label" not in params and "attention" not in params


@pytest.mark.slow
def test_patches_save_work_and_the_summary_counts_it():
    given = inputs(28)[:2]
    whole, patched = (summarize(unet.TimeUNet(1, (8, 16), patch=p), *given)[0].flops for p in (1, 2))
    assert 3.5 < whole / patched < 4.2


def test_patches_are_lossless_and_keep_neighbours_together():
    x = jax.random.normal(jax.random.key(0), (2, 6, 4, 3))
    deep = space_to_depth(x, 2)
    assert deep.shape == (2, 3, 2, 12)
    np.testing.assert_array_equal(deep[1, 2, 1].reshape(2, 2, 3), x[1, 4:6, 2:4])
    np.testing.assert_array_equal(depth_to_space(deep, 2), x)


@pytest.mark.slow
def test_embedding_of_times_is_bounded_and_tells_all_apart():
    e = np.asarray(unet.sinusoidal(jnp.arange(1, 1001), 32))
    np.testing.assert_allclose(np.square(e).reshape(1000, 2, 16).sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(e[6, 0], np.sin(7.0), rtol=1e-5)
    np.testing.assert_allclose(e[6, 15], np.sin(7.0 / 10_000), rtol=1e-5)
    distance = np.square(e[:, None] - e[None]).sum(-1) + 9 * np.eye(1000)
    assert distance.min() > 1e-3
    with pytest.raises(ValueError, match="even"):
        unet.sinusoidal(jnp.arange(3), 5)


def test_sizes_that_do_not_halve_are_refused():
    net, given = unet.TimeUNet(1, (4, 4, 4, 4)), inputs(28)[:2]
    with pytest.raises(ValueError, match=r"28×28.*multiples of 8"):
        net.init(jax.random.key(0), *given)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"widths": (4, 8)}, {"widths": (4, 4, 8), "blocks": 2, "patch": 2, "heads": 2}])
def test_without_a_time_it_is_an_image_to_numbers_per_pixel(options):
    net, x = unet.UNet(5, **options), inputs(8, 3)[0]
    params, state = jax.jit(net.init)(jax.random.key(0), x)
    out = net.apply(params, state, x)[0]
    assert out.shape == (2, 8, 8, 5) and not np.asarray(out).any() and not state
    whole = net.apply(woken(params), {}, x)[0]
    np.testing.assert_allclose(net.apply(woken(params), {}, x[1:])[0], whole[1:], atol=1e-4)


@pytest.mark.slow
def test_the_middle_and_the_skips_reach_the_output():
    net, x = unet.UNet(1, (4, 8)), inputs(8)[0]
    params = woken(jax.jit(net.init)(jax.random.key(0), x)[0])
    out = net.apply(params, {}, x)[0]
    for part in ("middle", "down_0_0", "down_1_0", "up_1_0", "stem"):
        cut = {**params, part: jax.tree.map(jnp.zeros_like, params[part])}
        assert np.abs(np.asarray(net.apply(cut, {}, x)[0] - out)).max() > 1e-4, part
