"""Optimisers from configs against the rules written out and optax (lecture 6–7, 10.1)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.optim import OptimizerConfig, decay_mask, learning_rate, make_optimizer, schedules

PARAMS = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3) - 2, "bias": jnp.ones(3)}, "norm": {"scale": jnp.ones(3)}}
GRADS = [jax.tree.map(lambda x, i=i: jnp.cos(x + i) * 3, PARAMS) for i in range(5)]


def walk(tx, grads=GRADS):
    params, state = PARAMS, tx.init(PARAMS)
    for g in grads:
        updates, state = tx.update(g, state, params)
        params = optax.apply_updates(params, updates)
    return params


def same(a, b, tolerance=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance), a, b)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sgd", optax.sgd(0.1)),
        ("momentum", optax.sgd(0.1, 0.9)),
        ("nesterov", optax.sgd(0.1, 0.9, nesterov=True)),
        ("adagrad", optax.adagrad(0.1, eps=1e-8)),
        ("rmsprop", optax.rmsprop(0.1, decay=0.9, eps=1e-8)),
        ("adam", optax.adam(0.1)),
        ("adamw", optax.adamw(0.1, weight_decay=0.0)),
    ],
)
def test_same_trajectory_as_optax(name, expected):
    same(walk(make_optimizer(OptimizerConfig(name=name, learning_rate=0.1), 5)), walk(expected))


def test_momentum_written_out():
    params, velocity = PARAMS, jax.tree.map(jnp.zeros_like, PARAMS)
    for g in GRADS:
        velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.1 * g, velocity, g)
        params = jax.tree.map(jnp.add, params, velocity)
    same(walk(make_optimizer(OptimizerConfig(name="momentum", learning_rate=0.1), 5)), params)


def test_decay_spares_biases_and_norms():
    assert decay_mask(PARAMS) == {"a": {"kernel": True, "bias": False}, "norm": {"scale": False}}
    zero = [jax.tree.map(jnp.zeros_like, PARAMS)]
    for name, factor in (("adamw", 1 - 0.1 * 0.5), ("sgd", 1 - 0.1 * 0.5)):
        after = walk(make_optimizer(OptimizerConfig(name=name, learning_rate=0.1, weight_decay=0.5), 5), zero)
        np.testing.assert_allclose(after["a"]["kernel"], factor * PARAMS["a"]["kernel"], rtol=1e-6)
        same({"b": after["a"]["bias"], "n": after["norm"]}, {"b": PARAMS["a"]["bias"], "n": PARAMS["norm"]}, 0)


def test_clipping():
    grads = [jax.tree.map(lambda x: 10 * x, GRADS[0])]
    tx = make_optimizer(OptimizerConfig(name="sgd", learning_rate=1.0, clip_norm=0.5), 5)
    moved = jax.tree.map(jnp.subtract, PARAMS, walk(tx, grads))
    assert abs(float(optax.tree.norm(moved)) - 0.5) < 1e-5
    cosine = sum(float((a * b).sum()) for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(grads[0]), strict=True))
    assert abs(cosine / (0.5 * float(optax.tree.norm(grads[0]))) - 1) < 1e-5
    tx = make_optimizer(OptimizerConfig(name="sgd", learning_rate=1.0, clip_value=0.2), 5)
    moved = jax.tree.map(jnp.subtract, PARAMS, walk(tx, grads))
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(moved)) <= 0.2 + 1e-6


def test_values_are_clipped_before_the_norm():
    grads = {"w": jnp.asarray([30.0, 0.4, -0.3])}
    config = OptimizerConfig(name="sgd", learning_rate=1.0, clip_value=1.0, clip_norm=0.5)
    tx = make_optimizer(config, 5)
    moved = np.asarray(tx.update(grads, tx.init(grads), grads)[0]["w"])
    clipped = np.clip(grads["w"], -1, 1)
    np.testing.assert_allclose(moved, -0.5 * clipped / np.linalg.norm(clipped), rtol=1e-5)


def test_frozen_leaves_are_bit_identical_and_do_not_count_in_the_norm():
    config = OptimizerConfig(name="adamw", learning_rate=0.1, weight_decay=0.5, clip_norm=1.0, freeze=("a/*",))
    after = walk(make_optimizer(config, 5))
    assert (after["a"]["kernel"] == PARAMS["a"]["kernel"]).all() and (after["a"]["bias"] == PARAMS["a"]["bias"]).all()
    assert (after["norm"]["scale"] != PARAMS["norm"]["scale"]).all()
    sgd = OptimizerConfig(name="sgd", learning_rate=1.0, clip_norm=1e3, freeze=("a/*",))
    huge = {"a": jax.tree.map(lambda x: x + 1e9, GRADS[0]["a"]), "norm": GRADS[0]["norm"]}
    moved = walk(make_optimizer(sgd, 5), [huge])["norm"]["scale"]
    np.testing.assert_allclose(moved, PARAMS["norm"]["scale"] - GRADS[0]["norm"]["scale"], rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "adm"}, "did you mean 'adam'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"freeze": ("b/*",)}, r"'b/\*' fits no path; there are a/bias, a/kernel"),
    ],
)
def test_bad_settings(change, text):
    with pytest.raises(ValueError, match=text):
        make_optimizer(OptimizerConfig(**change), 5).init(PARAMS)


def test_schedules_by_hand():
    at = lambda schedule, *steps: [float(schedule(step)) for step in steps]  # noqa: E731
    np.testing.assert_allclose(at(schedules.linear(2.0, 10, 0.1), 0, 5, 10, 99), [2, 1.1, 0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(at(schedules.cosine(2.0, 10), 0, 5, 10, 99), [2, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(at(schedules.step_decay(2.0, 3), 0, 2, 3, 6), [2, 2, 0.2, 0.02], rtol=1e-5)
    np.testing.assert_allclose(at(schedules.inverse_square_root(2.0, 4), 0, 4, 16, 64), [2, 2, 1, 0.5], rtol=1e-6)
    np.testing.assert_allclose(at(schedules.warmup(schedules.constant(2.0), 3), 0, 1, 3, 9), [0.5, 1, 2, 2], rtol=1e-6)
    rate = learning_rate(OptimizerConfig(learning_rate=1.0, schedule="cosine", warmup_steps=4), 100)
    assert rate(0) < rate(4) and float(rate(100)) < 1e-6
