"""Models and flows start outside jit with few compilations, to the same numbers as inside (lecture 28.3).

Counted are programs handed to the compiler, not seconds. An operation at a time, a Glow of four steps takes 129.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dlcore.generative import gan, vae
from dlcore.generative.decoder import bernoulli
from dlcore.generative.flow import ActNorm, Glow, InvertibleConv, RealNVP
from dlcore.networks import MLP, GatedPixelCNN, MLPConditioner
from dlcore.nn import SpectralNorm

KEY = jax.random.key(0)
EVENT = "/jax/core/compile/backend_compile_duration"
COMPILED = [0]
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: COMPILED.__setitem__(0, COMPILED[0] + (name == EVENT))
)


def compilations(function):
    before = COMPILED[0]
    found = function()
    return found, COMPILED[0] - before


def conditioner(shape, outputs):
    return MLPConditioner((7,), outputs)


# Sizes that no other test has, whose programs are not compiled yet.
X = np.random.default_rng(0).random((11, 4, 4, 1), np.float32)
FLOWS = {
    "glow": Glow((4, 4, 1), conditioner, scales=2, steps=2),
    "glow_plain": Glow((4, 4, 1), conditioner, scales=1, steps=2, permutation="plain"),
    "real_nvp": RealNVP((4, 4, 1), conditioner, scales=1, steps=2),
    "act_norm": ActNorm(),
    "conv": InvertibleConv(),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_starts_in_one_program(name):
    x = jnp.asarray(X)
    params, count = compilations(lambda: FLOWS[name].init(KEY, x))
    assert count <= 2
    inside = jax.jit(FLOWS[name].init)(KEY, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), params, inside)


MODELS = {
    "mlp": (MLP((13, 13, 13, 13), 3), jnp.zeros((11, 13))),
    "spectral": (SpectralNorm(MLP((17, 17, 17), 17)), jnp.zeros((11, 17))),
    "pixelcnn": (GatedPixelCNN(3, features=5, windows=(3, 3)).model, jnp.zeros((11, 3, 3, 1))),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", MODELS)
def test_a_model_compiles_its_initialisers_and_no_layer(name):
    """A random leaf costs a few programs per shape, the layers none."""
    model, *inputs = MODELS[name]
    (params, state), count = compilations(lambda: model.init(KEY, *inputs))
    shapes = {leaf.shape for leaf in jax.tree.leaves((params, state))}
    assert count <= 3 * len(shapes) + 8, (count, len(shapes))
    inside = jax.jit(model.init)(KEY, *inputs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), (params, state), inside)


@pytest.mark.slow
def test_whole_systems_start_from_their_initialisers_alone():
    networks = MLP((5,), 4), MLP((5,), 6)
    _, count = compilations(lambda: vae.init(KEY, vae.VAE(*networks, bernoulli()), jnp.zeros((2, 6))))
    assert count <= 25
    _, count = compilations(
        lambda: gan.init(KEY, gan.GAN(MLP((5,), 6), SpectralNorm(MLP((5,), 1)), 4), jnp.zeros((2, 6)))
    )
    assert count <= 35
