"""Clipping against optax, and its promises (lecture 10.1)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlcore.losses import group_lasso
from dlcore.optim import OptimizerConfig, group_threshold, make_optimizer, orthogonalized
from dlcore.optim import _clip as clip

PARAMS = {"conv": jnp.linspace(-1, 1, 54).reshape(3, 3, 2, 3), "dense": jnp.eye(4, 3) * 1e-5, "bias": jnp.ones(3)}


def gradients(seed, scale):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape) * scale, jnp.float32), PARAMS)


TRANSFORMS = {
    "value": (clip.clip_by_value(0.3), optax.clip(0.3)),
    "norm": (clip.clip_by_global_norm(1.5), optax.clip_by_global_norm(1.5)),
    "adaptive": (clip.clip_adaptively(0.1), optax.adaptive_grad_clip(0.1)),
}
APPLY = {name: [jax.jit(lambda g, tx=tx: tx.update(g, tx.init(PARAMS), PARAMS)[0]) for tx in pair]
         for name, pair in TRANSFORMS.items()}  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([1e-6, 1e-3, 0.1, 1.0, 1e4]), st.sampled_from(list(TRANSFORMS)))
def test_clipping_is_optaxs_and_never_exceeds_the_threshold(seed, scale, name):
    ours, theirs = (apply(gradients(seed, scale)) for apply in APPLY[name])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-12), ours, theirs)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(ours)])
    if name == "value":
        assert np.abs(flat).max() <= 0.3
    if name == "norm":
        assert np.linalg.norm(flat) <= 1.5 * (1 + 1e-5)
    if name == "adaptive":
        for leaf, weights in zip(jax.tree.leaves(ours), jax.tree.leaves(PARAMS), strict=True):
            of = lambda w: np.linalg.norm(np.reshape(w, (-1, w.shape[-1] if w.ndim > 1 else 1)), axis=0)  # noqa: E731
            assert (of(np.asarray(leaf)) <= 0.1 * np.maximum(of(np.asarray(weights)), 1e-3) * (1 + 1e-5)).all()


def test_small_gradients_pass_zeros_stay_zero_and_nan_is_kept():
    small = gradients(0, 1e-7)
    for name, (apply, _) in APPLY.items():
        jax.tree.map(np.testing.assert_array_equal, apply(small), small)
        jax.tree.map(lambda a: np.testing.assert_array_equal(a, 0), apply(gradients(0, 0.0)))
        assert np.isnan(apply(gradients(0, np.nan))["bias"]).all(), name


def test_value_before_norm_before_decay():
    """g = (10, 1): by value to (2, 1), by norm to (2, 1)/√5, and the decay of w = (1, 1) comes on top."""
    config = OptimizerConfig(name="sgd", learning_rate=1.0, clip_value=2.0, clip_norm=1.0, weight_decay=0.5)
    params = {"kernel": jnp.asarray([1.0, 1.0])}
    tx = make_optimizer(config, 10)
    updates, _ = tx.update({"kernel": jnp.asarray([10.0, 1.0])}, tx.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -np.array([2, 1]) / np.sqrt(5) - 0.5, rtol=1e-6)


def test_direction_is_kept_by_the_norm_and_bad_input_is_said():
    g = {"a": jnp.asarray([3.0, 0.0]), "b": jnp.asarray([0.0, -4.0])}
    clipped = clip.clip_by_global_norm(1.0).update(g, ())[0]
    np.testing.assert_allclose([clipped["a"][0], clipped["b"][1]], [0.6, -0.8], rtol=1e-6)
    for factory in (clip.clip_by_value, clip.clip_by_global_norm, clip.clip_adaptively):
        with pytest.raises(ValueError, match=r"must lie in \(0, ∞\]"):
            factory(0.0)
    with pytest.raises(ValueError, match="with the params"):
        clip.clip_adaptively(0.1).update(g, ())


@pytest.mark.parametrize("dtype", [pytest.param(jnp.bfloat16, marks=pytest.mark.slow), jnp.float16])
def test_norms_of_half_precision_neither_overflow_nor_round(dtype):
    """300² is beyond float16, and ε = 1e-8 below it: squares are single precision, what comes out is the input's."""
    w = jnp.full((1000, 4), 300, dtype)
    norm = 300 * np.sqrt(1000)  # of one output's weights
    wanted = {
        "clip_by_global_norm": (clip.clip_by_global_norm(1.0).update(w, (), w)[0], 300 / (2 * norm)),
        "clip_adaptively": (clip.clip_adaptively(0.1).update(w, (), w)[0], 30),
        "group_threshold": (group_threshold(w, jnp.asarray(0.5 * norm / np.sqrt(1000), dtype)), 150),
    }
    for name, (found, value) in wanted.items():
        assert found.dtype == dtype, name
        np.testing.assert_allclose(np.asarray(found, float), value, rtol=2e-2, err_msg=name)
    assert float(group_lasso({"kernel": w})) == pytest.approx(4 * np.sqrt(1000) * norm, rel=1e-5)
    turned = np.asarray(orthogonalized(jnp.asarray(300 * np.eye(4, 3), dtype)), np.float32)
    assert 0.6 < np.linalg.svd(turned, compute_uv=False).min() < 1.3
    np.testing.assert_array_equal(orthogonalized(jnp.zeros((4, 3), dtype)), 0)
