# %% [markdown]
# # From likelihood to loss
#
# Entropy, divergence and maximum likelihood with numbers: why a network is trained by cross-entropy, and when by
# squared errors.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

from dlcore import losses, stats

# %% [markdown]
# A biased coin has less than one bit of entropy. To describe it by the code of a fair coin costs the divergence more:
# H(p, q) = H(p) + KL(p ‖ q).

# %%
p, q = jnp.array([0.9, 0.1]), jnp.array([0.5, 0.5])
entropy, divergence = stats.entropy(p, "bits"), stats.kl(p, q, "bits")
assert jnp.allclose(stats.cross_entropy(p, q, "bits"), entropy + divergence)
print(f"H(p) = {entropy:.3f} bits, KL(p ‖ q) = {divergence:.3f} bits")

# %%
grid = jnp.linspace(0.01, 0.99, 99)
entropies = stats.entropy(jnp.stack([grid, 1 - grid], -1), "bits")
fig, axes = plt.subplots(figsize=(5, 3))
axes.plot(grid, entropies)
axes.set(xlabel="p(heads)", ylabel="entropy (bits)")
plt.show()

# %% [markdown]
# The maximum-likelihood estimate of a normal distribution has the mean of the samples and the variance by 1/m.

# %%
draws = 2 + 3 * jax.random.normal(jax.random.key(0), (1000,))
fitted = stats.fit_normal(draws)
print(f"μ = {fitted['mean']:.3f}, σ = {jnp.exp(fitted['log_scale']):.3f}")

# %% [markdown]
# With a fixed σ the negative log-likelihood is the squared error, up to a factor and a constant.

# %%
target = jnp.array([1.0, 2.0, 4.0])
guess = jnp.array([1.5, 2.0, 3.0])
nll = losses.gaussian_nll(guess, target, 1.0)
assert jnp.allclose(nll - 0.5 * jnp.log(2 * jnp.pi), losses.squared_error(guess, target) / 2, atol=1e-6)
print(nll)
