"""
Optimisation: three ways down
=============================

Gradient descent, momentum and Newton's method on Rosenbrock's valley, by the same call.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from dlcore import optim


def valley(x):
    """Its minimum is at (1, 1)."""
    return 20 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


methods = {
    "gradient descent": optim.gradient_descent(0.005),
    "momentum 0.9": optim.momentum(0.002, 0.9),
    "damped Newton": optim.damped_newton(),
}
start = jnp.array([-1.5, 1.5])
found = {name: optim.minimize(method, valley, start, steps=200) for name, method in methods.items()}

# %%
# The ways, and how many steps each took.
x, y = np.meshgrid(np.linspace(-2, 2, 200), np.linspace(-1, 3, 200))
fig, axes = plt.subplots(figsize=(6, 4.5), layout="constrained")
axes.contour(x, y, np.log1p(valley((x, y))), levels=20, cmap="Greys", linewidths=0.7)
for name, result in found.items():
    points = np.asarray(result.trace.points)[: result.steps + 1]
    axes.plot(*points.T, marker=".", markersize=3, label=f"{name}: {result.steps} steps, f = {result.value:.1e}")
axes.plot(1, 1, "k*", markersize=12)
axes.legend(fontsize=8)
axes.set(xlabel="x₁", ylabel="x₂", xlim=(-2, 2), ylim=(-1, 3))
plt.show()
