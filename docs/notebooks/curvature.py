# %% [markdown]
# # Learning rates and curvature
#
# Why gradient descent diverges above 2/λ, and what momentum and Newton's method do about long valleys.

# %%
import jax.numpy as jnp
import matplotlib.pyplot as plt

from dlcore import optim

# %% [markdown]
# A quadratic with curvatures 1 and 25: descent converges for rates below 2/25 = 0.08.


# %%
def bowl(x):
    """½ (x₁² + 25 x₂²)."""
    return 0.5 * (x[0] ** 2 + 25 * x[1] ** 2)


start = jnp.array([4.0, 1.0])
found = {rate: optim.minimize(optim.gradient_descent(rate), bowl, start, steps=60) for rate in (0.01, 0.07, 0.085)}
assert found[0.07].value < found[0.01].value < bowl(start) < found[0.085].value

fig, axes = plt.subplots(figsize=(5, 3))
for rate, result in found.items():
    axes.semilogy(result.trace.values[: result.steps + 1], label=f"rate {rate}")
axes.set(xlabel="step", ylabel="f(x)")
axes.legend()
plt.show()

# %% [markdown]
# The extreme curvatures need no Hessian matrix: its products with vectors are enough. Newton's method, which has the
# matrix, solves a quadratic in one step.

# %%
hessian = optim.hessian(bowl, start)
direction = jnp.array([0.0, 1.0])
assert jnp.allclose(optim.hvp(bowl, start, direction), hessian @ direction)
newton = optim.minimize(optim.newton(), bowl, start, steps=10)
momentum = optim.minimize(optim.momentum(0.03, 0.7), bowl, start, steps=60)
print(f"Newton: {newton.steps} step, f = {newton.value:.1e}; momentum: f = {momentum.value:.1e} after {momentum.steps}")
