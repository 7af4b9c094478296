"""
Flow: a bijection of the plane
==============================

Couplings take points of two moons to a normal distribution, and a grid of latents back.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from dlcore import data, networks
from dlcore.generative import flow

points = jnp.asarray(data.toy.draw("two_moons", 1000, np.random.default_rng(0))["point"])
bijector = flow.RealNVP(
    (2,), lambda shape, outputs: networks.MLPConditioner((32,), outputs, activation="tanh"), steps=8
)
params = bijector.init(jax.random.key(0), points)
tx = optax.adam(1e-2)


def nll(params):
    """Nats of a point: −log N(z; 0, I) − log|det ∂z/∂x|."""
    return -flow.density.log_prob(bijector, params, points).mean()


@jax.jit
def step(params, memory):
    """One step of Adam."""
    updates, memory = tx.update(jax.grad(nll)(params), memory)
    return optax.apply_updates(params, updates), memory


memory = tx.init(params)
for _ in range(400):
    params, memory = step(params, memory)

# %%
# Data and latents on the left and right; the circles of the latents are the level lines of their density.
latents, _ = bijector.forward(params, points)
angles = jnp.linspace(0, 2 * jnp.pi, 200)
fig, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3.6), layout="constrained")
left.scatter(*points.T, s=3)
right.scatter(*latents.T, s=3)
for radius in (0.5, 1.0, 2.0):
    circle = radius * jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1)
    right.plot(*circle.T, color="black", linewidth=0.8)
    left.plot(*bijector.inverse(params, circle)[0].T, color="black", linewidth=0.8)
left.set(title=f"x, {nll(params):.2f} nats", xlabel="x₁", ylabel="x₂")
right.set(title="z", xlabel="z₁", ylabel="z₂", aspect="equal")
plt.show()
