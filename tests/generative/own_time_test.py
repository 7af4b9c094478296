"""Training and sampling take hardly longer than their network alone: the recipes for 28×28 images, timed in turns."""

import jax
import jax.numpy as jnp
import pytest
from turns import seconds

from dlcore.data import DataSpec
from dlcore.generative.diffusion import schedule
from dlcore.train import create, main_fit, make_train_step
from experiments import diffusion, pixelcnn

SPEC = DataSpec("test", (28, 28, 1), 256, 10, tuple("0123456789"), (60_000, 0, 0), (0.3,), (0.35,))
LIMIT = 1.1


def images(num):
    return jax.random.randint(jax.random.key(0), (num, 28, 28, 1), 0, 256).astype(jnp.uint8)


def diffusion_network(batch):
    config = diffusion.preset("default", SPEC)
    network = diffusion.make_network(config, SPEC)
    x, t, label = batch["image"] / 128 - 1, jnp.full(len(batch["label"]), 500), batch["label"]
    return diffusion, config, lambda params, state: network.apply(params, state, x, t, label, train=True)[0]


def pixelcnn_network(batch):
    config = pixelcnn.preset("default", SPEC)
    network, _ = pixelcnn.make_network(config, SPEC)
    x = batch["image"] / 128 - 1
    given = (batch["label"],) if config.conditional else ()
    return pixelcnn, config, lambda params, state: network.model.apply(params, state, x, *given, train=True)[0]


@pytest.mark.slow
@pytest.mark.parametrize("make", [diffusion_network, pixelcnn_network])
def test_training(make):
    """Against the network and its gradient, for squared outputs; the rest is preparation, loss, optimiser and EMA."""
    batch = {"image": images(64), "label": jnp.arange(64, dtype=jnp.int32) % 10, "row": jnp.arange(64)}
    module, config, network = make(batch)
    fit = main_fit(module.build(config, SPEC))[1]
    ready = fit.preprocess(batch, key=jax.random.key(1), train=True)
    state = create(jax.random.key(0), lambda key: fit.init(key, ready), fit.update)
    own = jax.jit(jax.value_and_grad(lambda params, state: (network(params, state) ** 2).sum()))
    step = jax.jit(make_train_step(fit.update, fit.preprocess))
    whole, alone = seconds(lambda: step(state, batch), lambda: own(state.params, state.state), turns=12)
    print(f"step {whole * 1e3:.0f} ms, the network's gradient {alone * 1e3:.0f} ms: {whole / alone:.3f} times")
    assert whole < LIMIT * alone


@pytest.mark.slow
def test_sampling():
    """Against as many evaluations of the network on a batch of the same size, twice the images because of guidance."""
    config, num = diffusion.preset("default", SPEC), 32
    network = diffusion.make_network(config, SPEC)
    x, label = jnp.zeros((2 * num, 28, 28, 1)), jnp.arange(2 * num) % 10
    params, state = network.init(jax.random.key(0), x, label, label)
    sample = diffusion.make_sampler(config, SPEC, network, schedule.by_name(config.schedule, config.steps))
    evaluate = jax.jit(lambda x, t: network.apply(params, state, x, t, label)[0])

    def alone():
        y = x
        for i in range(config.sample_steps):
            y = evaluate(y, jnp.full(2 * num, i))
        return y

    whole, own = seconds(lambda: sample(params, state, jax.random.key(1), num), alone, turns=6)
    print(f"{config.sample_steps} steps {whole:.2f} s, their network {own:.2f} s: {whole / own:.3f} times")
    assert whole < LIMIT * own
