"""A network is told the times of the whole diffusion, whoever calls it, on any respaced schedule (lecture 29.2)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.generative.diffusion import bound, objective, samplers, schedule
from dlcore.types import Model

FULL = schedule.cosine(1000)
SCHEDULES = {
    "full": FULL,
    "ten": schedule.respace(FULL, 10),
    "near the data": schedule.respace(FULL, 7, 2.0),
    "twice": schedule.respace(schedule.respace(FULL, 100), 4),
    "one": schedule.respace(FULL, 1),
}


def heard(call, short, limit=12):
    """All times that the network hears from one caller."""
    times = []

    def network(x, t, *rest):
        jax.debug.callback(lambda t: times.extend(np.asarray(t).tolist()), t)
        return jnp.zeros_like(x)

    call(network, short)
    jax.effects_barrier()
    return set(times)


def training(network, short):
    model = Model(lambda key, *x: ({}, {}), lambda p, s, *inputs, train, key: (network(*inputs), s))
    step = objective.simple(model, short, data="point")
    step({}, {}, {"point": jnp.zeros((5 * short.steps, 2))}, key=jax.random.key(0), train=True)


def estimating(network, short):
    reverse, keys = bound.Reverse(short, "eps", "beta"), jax.random.split(jax.random.key(0), 50)
    bound.estimate(reverse, network, jnp.zeros((50, 2)), keys, jnp.linspace(0, 0.999, 50), draws=3)


def summing(network, short):
    bound.all_terms(bound.Reverse(short, "eps", "beta"), network, jnp.zeros((2, 2)), key=jax.random.key(0))


def sampling(network, short):
    samplers.make_sampler(network, short, samplers.ddim(short), kind="x0")(jax.random.key(0), (2, 2))


def guiding(network, short):
    def predict(x, t):
        return objective.guided(network(x, t), network(x, t), 2.0)

    samplers.make_sampler(predict, short, samplers.ancestral(short, "beta"), kind="v")(jax.random.key(0), (2, 2))


CALLERS = {f.__name__: f for f in (training, estimating, summing, sampling, guiding)}


TOLD = [
    (which, name)
    for which in SCHEDULES
    for name in CALLERS
    # The full schedule means a thousand calls, and one time leaves none to estimate.
    if (which != "full" or name == "training") and (which != "one" or name != "estimating")
]


@pytest.mark.sampled
@pytest.mark.parametrize(("which", "name"), TOLD)
def test_every_caller_tells_the_times_of_the_whole_diffusion(which, name):
    short = SCHEDULES[which]
    times = heard(CALLERS[name], short)
    assert times <= set(short.time[1:].tolist()) and len(times) >= 0.8 * min(short.steps, 150)
    if name != "estimating":
        assert times == set(short.time[1:].tolist())


def test_a_loss_on_a_part_of_the_schedule_is_that_of_the_full_one_at_those_times():
    short = SCHEDULES["ten"]
    x, eps = jax.random.normal(jax.random.key(0), (2, 10, 3))
    t = jnp.arange(1, 11)
    ours = objective.error(short, "v", jnp.zeros_like(x), x, t, eps)
    np.testing.assert_allclose(
        ours, objective.error(FULL, "v", jnp.zeros_like(x), x, schedule.told(short, t), eps), rtol=1e-6
    )
