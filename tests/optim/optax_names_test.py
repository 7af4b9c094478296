"""Schedules by name, and optimisers and schedules of optax by name and text, against optax itself (lecture 6–7)."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dlcore.optim import OptimizerConfig, decay_mask, learning_rate, make_optimizer, named, parsed, schedules
from dlcore.train import from_json, override, to_json

PARAMS = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3) - 2, "bias": jnp.ones(3)}}
GRADS = [jax.tree.map(lambda x, i=i: jnp.cos(x + i), PARAMS) for i in range(3)]


def walk(tx):
    params, state = PARAMS, tx.init(PARAMS)
    for g in GRADS:
        updates, state = tx.update(g, state, params, value=jnp.float32(0.5))
        params = optax.apply_updates(params, updates)
    return params


def same(ours, theirs):
    theirs = optax.with_extra_args_support(theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), walk(ours), walk(theirs))


def test_piecewise_and_one_cycle_by_hand_and_by_optax():
    at = lambda schedule, *steps: [float(schedule(step)) for step in steps]  # noqa: E731
    piecewise = schedules.piecewise(2.0, (3, 5), (0.5, 0.1))
    np.testing.assert_allclose(at(piecewise, 0, 2, 3, 4, 5, 99), [2, 2, 1, 1, 0.1, 0.1], rtol=1e-6)
    theirs = optax.piecewise_constant_schedule(2.0, {3: 0.5, 5: 0.1})
    np.testing.assert_allclose(at(piecewise, *range(8)), at(theirs, *range(8)), rtol=1e-6)
    cycle = schedules.one_cycle(2.0, 20)
    np.testing.assert_allclose(at(cycle, 0, 3, 6, 13, 20, 99), [0.08, 1.04, 2, 1.000004, 8e-6, 8e-6], rtol=1e-5)
    for steps in (1, 7, 20):
        ours, theirs = schedules.one_cycle(2.0, steps), optax.cosine_onecycle_schedule(steps, 2.0)
        np.testing.assert_allclose(at(ours, *range(1, 25)), at(theirs, *range(1, 25)), rtol=1e-4, atol=1e-7)
    config = OptimizerConfig(learning_rate=2.0, schedule="piecewise", boundaries=(3, 5), decay_factor=0.5)
    np.testing.assert_allclose(at(learning_rate(config, 9), 2, 3, 5), [2, 1, 0.5], rtol=1e-6)
    config = OptimizerConfig(learning_rate=2.0, schedule="one_cycle")
    np.testing.assert_allclose(at(learning_rate(config, 20), 6, 20), [2, 8e-6], rtol=1e-5)
    with pytest.raises(ValueError, match="one factor for each"):
        schedules.piecewise(1.0, (1, 2), (0.1,))


@pytest.mark.parametrize(
    ("config", "theirs"),
    [
        ({"name": "optax.lion"}, optax.lion(0.1)),
        (
            {"name": "optax.lion", "arguments": ("b1=0.5", "weight_decay=0.2")},
            optax.lion(0.1, b1=0.5, weight_decay=0.2),
        ),
        ({"name": "optax.lion", "weight_decay": 0.3}, optax.lion(0.1, weight_decay=0.3, mask=decay_mask)),
        ({"name": "optax.sgd", "arguments": ("momentum=0.8", "nesterov=True")}, optax.sgd(0.1, 0.8, nesterov=True)),
        ({"name": "optax.adam", "arguments": ("mu_dtype=bfloat16",)}, optax.adam(0.1, mu_dtype="bfloat16")),
        ({"name": "optax.contrib.prodigy", "learning_rate": 1.0}, optax.contrib.prodigy(1.0)),
        ({"name": "optax.polyak_sgd", "arguments": ("max_learning_rate=0.2",)}, optax.polyak_sgd(0.2)),
        ({"name": "optax.scale_by_adam"}, optax.adam(0.1)),
        ({"name": "optax.contrib.scale_by_adopt"}, optax.contrib.adopt(0.1)),
        ({"name": "optax.rmsprop", "schedule": "linear"}, optax.rmsprop(optax.linear_schedule(0.1, 0.0, 5))),
        ({"name": "optax.sgd", "clip_value": 0.5}, optax.chain(optax.clip(0.5), optax.sgd(0.1))),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "optax",
)
def test_optimisers_of_optax(config, theirs):
    same(make_optimizer(OptimizerConfig(**{"learning_rate": 0.1, **config}), 5), theirs)


def test_schedules_of_optax():
    config = OptimizerConfig(
        schedule="optax.polynomial_schedule", schedule_arguments=("end_value=0.01", "power=2"), learning_rate=0.1
    )
    ours, theirs = learning_rate(config, 10), optax.polynomial_schedule(0.1, 0.01, 2, 10)
    np.testing.assert_allclose([ours(i) for i in range(12)], [theirs(i) for i in range(12)], rtol=1e-6)
    texts = ("init_value=0.3", "boundaries_and_scales={2: 0.5", "4: 0.5}")
    ours = named("optax.piecewise_constant_schedule", texts)
    np.testing.assert_allclose([ours(0), ours(3), ours(5)], [0.3, 0.15, 0.075], rtol=1e-6)


def test_settings_from_the_command_line_survive_a_run_folder():
    config = override(OptimizerConfig(), "name", "optax.lion")
    config = override(config, "arguments", "b1=0.5,b2=0.9")
    config = override(override(config, "schedule", "piecewise"), "boundaries", "100,200")
    assert config.arguments == ("b1=0.5", "b2=0.9") and config.boundaries == (100, 200)
    assert from_json(OptimizerConfig, to_json(config)) == config
    assert parsed(("a=1", "b=(1", "2)", "c=None", "d=bfloat16", "e=-1e-3")) == {
        "a": 1, "b": (1, 2), "c": None, "d": "bfloat16", "e": -1e-3
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": "optax.lyon"}, r"did you mean optax\.lion"),
        (
            {"name": "optax.lion", "arguments": ("beta1=0.9",)},
            r"no argument 'beta1'; did you mean '\w+'\? There are .*b1",
        ),
        ({"name": "optax.lion", "arguments": ("0.9",)}, "has no name"),
        ({"name": "optax.lion", "arguments": ("b1=open('x')",)}, "NAME=VALUE"),
        ({"name": "optax.lookahead"}, "needs fast_optimizer"),
        (
            {"name": "optax.linear_schedule", "arguments": ("init_value=1", "end_value=0", "transition_steps=3")},
            "no optimiser",
        ),
        ({"name": "optax.centralize"}, "no steps downhill"),
        ({"name": "optax.contrib.reduce_on_plateau"}, "no steps downhill"),
        (
            {"name": "optax.scale_by_backtracking_linesearch", "arguments": ("max_backtracking_steps=5",)},
            "no steps downhill",
        ),
        ({"name": "optax.contrib.momo", "weight_decay": 0.1}, r"biases.*arguments=weight_decay=0\.1"),
        ({"name": "adam", "schedule": "optax.cosine_decay"}, r"did you mean optax\.cosine_decay_schedule"),
        ({"name": "adam", "schedule": "onecycle"}, "did you mean 'one_cycle'"),
        ({"name": "lion"}, r"optax\.NAME"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "optax",
)
def test_what_optax_does_not_have_is_refused(change, text):
    with pytest.raises(ValueError, match=text):
        make_optimizer(OptimizerConfig(**change), 5)
