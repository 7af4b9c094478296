# %% [markdown]
# # A bound on the likelihood
#
# log p(x) of a model with a latent variable is an integral; a guess q(z|x) of the posterior gives the evidence lower
# bound, and several draws a tighter one. Here everything is normal, so that the evidence is known:
# z ~ N(0, 1) and x|z ~ N(z, 1), hence x ~ N(0, 2) and z|x ~ N(x/2, 1/2).

# %%
import itertools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

from dlcore import losses
from dlcore.generative import vae

x = jnp.array(1.5)
evidence = -losses.gaussian_nll(jnp.array(0.0), x, jnp.sqrt(2.0))
print(f"log p(x) = {evidence:.4f} nats")


# %%
def log_weights(key, mean, std, draws):
    """log p(x, z) − log q(z|x) at draws of q(z|x) = N(mean, std²)."""
    z = vae.reparameterize(key, jnp.full(draws, mean), jnp.full(draws, jnp.log(std)))
    log_joint = -losses.gaussian_nll(jnp.zeros_like(z), z, 1.0) - losses.gaussian_nll(z, jnp.full_like(z, x), 1.0)
    return log_joint + losses.gaussian_nll(jnp.full_like(z, mean), z, std)


# %% [markdown]
# At the true posterior every weight is the evidence; elsewhere their mean is the ELBO, which lies below.

# %%
exact = log_weights(jax.random.key(0), 0.75, jnp.sqrt(0.5), 1000)
assert jnp.allclose(exact, evidence, atol=1e-4)
rough = log_weights(jax.random.key(0), 0.0, 1.0, 100_000).reshape(-1, 100)

counts = (1, 2, 5, 10, 20, 50, 100)
bounds = [float(vae.iwae_bound(rough[:, :k].T).mean()) for k in counts]
assert all(low < high for low, high in itertools.pairwise(bounds)) and bounds[-1] < evidence + 0.01

fig, axes = plt.subplots(figsize=(5, 3))
axes.semilogx(counts, bounds, marker="o", label="bound, q = N(0, 1)")
axes.axhline(evidence, color="black", linewidth=0.8, label="log p(x)")
axes.set(xlabel="draws", ylabel="nats")
axes.legend()
plt.show()
