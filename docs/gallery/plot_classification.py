"""
Classification: two moons
=========================

A multi-layer perceptron, and the probability that it gives to one of two classes.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

from dlcore import data, losses, networks, train

rows = data.toy.draw("two_moons", 1000, np.random.default_rng(0))
batch = {name: jnp.asarray(values) for name, values in rows.items()}

model = networks.MLP((32, 32), outputs=2, activation="tanh")
objective = losses.supervised(model, losses.softmax_cross_entropy, inputs="point")
update = train.gradient_update(objective, optax.adam(1e-2))
state = train.create(jax.random.key(0), lambda key: model.init(key, batch["point"]), update)
step = jax.jit(train.make_train_step(update))
for _ in range(300):
    state, _ = step(state, batch)

# %%
# The network between the points.
x, y = np.meshgrid(np.linspace(-4, 4, 200), np.linspace(-3, 3, 150))
logits, _ = model.apply(state.params, state.state, jnp.stack([x.ravel(), y.ravel()], -1))
probability = jax.nn.softmax(logits)[:, 1].reshape(x.shape)

fig, axes = plt.subplots(figsize=(6, 4.2), layout="constrained")
shown = axes.contourf(x, y, probability, levels=20, cmap="RdBu", vmin=0, vmax=1, alpha=0.5)
axes.scatter(*rows["point"].T, c=rows["label"], cmap="RdBu", s=10, edgecolors="white", linewidths=0.3)
fig.colorbar(shown, label="p(class 1 | x)")
axes.set(xlabel="x₁", ylabel="x₂")
plt.show()
