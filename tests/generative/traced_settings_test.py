"""Settings of generative models may be traced: the same value inside jit, and a gradient that is the slope."""

import jax
import jax.numpy as jnp
import pytest

from dlcore.generative import decoder, gan, vae
from dlcore.generative.diffusion import objective, samplers, schedule
from dlcore.generative.flow import Affine, Logit, bounded, density
from dlcore.nn import Dense
from dlcore.types import Model

KEY = jax.random.key(0)
SHORT = schedule.respace(schedule.linear(100), 5)

TRACED = {
    "decoder std": lambda s: decoder.gaussian(s).nll(jnp.zeros((2, 3)), jnp.ones((2, 3))).sum(),
    "decoder temperature": lambda s: decoder.gaussian(1.0).sample(KEY, jnp.zeros((2, 3)), s).sum(),
    "flow temperature": lambda s: density.sample(KEY, Affine(2.0), {}, (2, 2), temperature=s).sum(),
    "gumbel": lambda s: vae.gumbel_softmax(KEY, jnp.arange(3.0), s)[0],
    "beta": lambda s: elbo(beta=s),
    "free bits": lambda s: elbo(free_bits=s),
    "coupling bound": lambda s: bounded(jnp.ones(2), s).sum(),
    "logit": lambda s: Logit(0.1 * s).forward({}, jnp.full((1, 2), 0.3))[1].sum(),
    "affine": lambda s: Affine(s, s).forward({}, jnp.ones((1, 2)))[1].sum(),
    "guidance": lambda s: objective.guided(jnp.ones(2), jnp.zeros(2), s).sum(),
    "gradient penalty": lambda s: adversarial(gradient_penalty_weight=s),
    "r1": lambda s: adversarial(r1_weight=s),
    "eta": lambda s: samplers.make_sampler(lambda x, t: 0.9 * x, SHORT, samplers.ddim(SHORT, s), kind="eps")(
        KEY, (2, 2)
    ).sum(),
    "sampler temperature": lambda s: samplers.make_sampler(
        lambda x, t: 0.9 * x, SHORT, samplers.ancestral(SHORT), kind="eps"
    )(KEY, (2, 2), temperature=s).sum(),
}  # fmt: skip


def elbo(**options):
    network = Model(lambda key, x: ({}, {}), lambda p, s, x, **_: (jnp.concatenate([x, x], -1) / 3, s))
    return vae.negative_elbo(
        vae.VAE(network, Dense(2, kernel_init=jax.nn.initializers.ones), decoder.bernoulli()), **options
    )(
        {"encoder": {}, "decoder": {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}},
        {"encoder": {}, "decoder": {}},
        {"image": jnp.ones((3, 2))},
        key=KEY,
        train=True,
    )[0]


def adversarial(**options):
    square = Model(lambda key, x: ({}, {}), lambda p, s, x, **_: ((x**2).sum(-1), s))
    system = gan.GAN(Model(square.init, lambda p, s, z, **_: (z, s)), square, 2)
    state = {"generator": {}, "discriminator": {}}
    params = {"generator": {}, "discriminator": {}}
    batch = {"image": jnp.ones((3, 2))}
    return gan.discriminator_objective(system, gan.hinge(), **options)(params, state, batch, key=KEY, train=True)[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACED)
def test_settings_may_be_traced_and_have_a_gradient(name):
    function = TRACED[name]
    value, slope = jax.jit(jax.value_and_grad(function))(jnp.float32(0.7))
    assert float(value) == pytest.approx(float(function(0.7)), rel=1e-5)
    of = jax.jit(function)
    step = (float(of(jnp.float32(0.71))) - float(of(jnp.float32(0.69)))) / 0.02
    assert float(slope) == pytest.approx(step, rel=0.03, abs=2e-3) and abs(step) > 1e-3
