"""Autoencoders with a linear decoder and Gaussian everything, whose log p(x) is known in closed form."""

import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from dlcore.generative import vae
from dlcore.generative.decoder import gaussian
from dlcore.types import Bijector, Model

D, LATENT, STD = 4, 2, 0.5
RNG = np.random.default_rng(0)
W = np.linalg.qr(RNG.normal(size=(D, LATENT)))[0] * np.array([1.3, 0.7])
B = RNG.normal(size=D)
EMPTY = {"encoder": {}, "decoder": {}}


def model(function):
    """A network without params."""
    return Model(lambda key, *x: ({}, {}), lambda params, state, *x, train=False, key=None: (function(*x), state))


def posterior_of(x, mean=0.0, std=1.0):
    """μ and log σ of the true posterior under a prior N(mean, std²), diagonal because W has orthogonal columns."""
    precision = np.diag(W.T @ W) / STD**2 + 1 / np.square(std)
    return ((x - B) @ W / STD**2 + mean / np.square(std)) / precision, -0.5 * np.log(precision)


def system(posterior, prior, *, spoil=0.0, shift=0.0):
    """The autoencoder whose encoder gives the true posterior under N(0, I), its log σ raised and its μ moved."""

    def encode(x):
        mean, log_std = posterior_of(x)
        return mean + shift, jnp.broadcast_to(log_std + spoil, mean.shape)

    decoder = model(lambda z: z @ W.T + B)
    return vae.VAE(model(encode), decoder, gaussian(STD), posterior=posterior, prior=prior)


def evidence(x, means=((0.0, 0.0),), stds=((1.0, 1.0),)):
    """log p(x) under an equal mixture of N(mean, diag std²) as the prior."""
    parts = []
    for mean, std in zip(means, stds, strict=True):
        covariance = W @ np.diag(np.square(std)) @ W.T + STD**2 * np.eye(D)
        parts.append(scipy.stats.multivariate_normal(W @ np.asarray(mean) + B, covariance).logpdf(x))
    return scipy.special.logsumexp(parts, axis=0) - np.log(len(parts))


def images(count=12, seed=1):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(count, LATENT)) @ W.T + B + STD * rng.normal(size=(count, D)))


def affine(mean, std):
    """f(z) = (z − m)/s: as a prior N(m, s²)."""
    mean, std = jnp.asarray(mean), jnp.asarray(std)
    total = jnp.log(std).sum()
    return Bijector(
        lambda key, x: {},
        lambda params, x: ((x - mean) / std, jnp.full(len(x), -total)),
        lambda params, z: (z * std + mean, jnp.full(len(z), total)),
    )
