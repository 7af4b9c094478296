"""Networks that start from data see data, or codes, wherever they stand in a system."""

import jax
import jax.numpy as jnp
import numpy as np

from dlcore.generative import autoencoder, decoder, gan, vae
from dlcore.types import Model

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (64, 4)) * 3 + 1


def standardized(features):
    """A linear layer whose outputs have mean 0 and standard deviation 1 on what it starts from."""

    def init(key, x):
        kernel = jax.random.normal(key, (x.shape[-1], features))
        y = x @ kernel
        return {"kernel": kernel, "scale": 1 / y.std(0), "mean": y.mean(0)}, {}

    def apply(params, state, x, *, train=False, key=None):
        return (x @ params["kernel"] - params["mean"]) * params["scale"], state

    return Model(init, apply)


def check(out):
    np.testing.assert_allclose(np.mean(out, 0), 0, atol=1e-4)
    np.testing.assert_allclose(np.std(out, 0), 1, rtol=1e-4)


def test_an_autoencoder_starts_from_data_and_their_codes():
    networks = autoencoder.Autoencoder(standardized(3), standardized(4))
    params, state = autoencoder.init(KEY, networks, X)
    codes, _ = networks.encoder.apply(params["encoder"], state["encoder"], X)
    check(codes)
    check(networks.decoder.apply(params["decoder"], state["decoder"], codes)[0])
    jitted = jax.jit(lambda key, x: autoencoder.init(key, networks, x))(KEY, X)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), (params, state), jitted)


def test_a_vae_starts_from_data_and_codes_of_the_prior():
    networks = vae.VAE(standardized(6), standardized(4), decoder.gaussian(1.0))
    params, state = vae.init(KEY, networks, X)
    check(networks.encoder.apply(params["encoder"], state["encoder"], X)[0])
    z = jax.random.normal(jax.random.key(2), (20000, 3))
    out, _ = networks.decoder.apply(params["decoder"], state["decoder"], z)
    np.testing.assert_allclose(np.std(out, 0), 1, rtol=0.5)


def test_a_gan_starts_from_data_and_codes():
    networks = gan.GAN(standardized(4), standardized(1), latent=3)
    params, state = gan.init(KEY, networks, X)
    check(networks.discriminator.apply(params["discriminator"], {}, X)[0])
    z = jax.random.normal(jax.random.key(2), (20000, 3))
    out, _ = networks.generator.apply(params["generator"], {}, z)
    np.testing.assert_allclose(np.std(out, 0), 1, rtol=0.5)
    assert jnp.isfinite(params["generator"]["scale"]).all() and state == {"generator": {}, "discriminator": {}}
