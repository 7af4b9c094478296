# %% [markdown]
# # A first network
#
# Functions that compose: a model, a loss, an update, a step. Digits of 8×8 pixels are classified by a network of two
# layers.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

from dlcore import data, evaluation, losses, networks, train

digits = data.load("digits")
rows = {name: jnp.asarray(values) for name, values in digits.train.arrays.items()}
rows["image"] = rows["image"] / 15
test = jnp.asarray(digits.test.arrays["image"]) / 15, jnp.asarray(digits.test.arrays["label"])
print(digits.spec.shape, digits.spec.sizes)

# %% [markdown]
# A `Model` is two functions. `init` makes params and state, nested dicts of arrays; `apply` computes.

# %%
model = networks.MLP((64,), outputs=10)
params, state = model.init(jax.random.key(0), rows["image"][:1])
print(jax.tree.map(jnp.shape, params))

# %% [markdown]
# An `Update` changes params and owns what it must remember, here the moments of Adam; a step is an update, compiled.

# %%
update = train.gradient_update(losses.supervised(model, losses.softmax_cross_entropy), optax.adam(3e-3))
train_state = train.create(jax.random.key(0), lambda key: model.init(key, rows["image"]), update)
step = jax.jit(train.make_train_step(update))
history = []
for _ in range(150):
    train_state, metrics = step(train_state, rows)
    history.append(float(metrics["loss"].value()))

# %%
fig, axes = plt.subplots(figsize=(5, 3))
axes.semilogy(history)
axes.set(xlabel="step", ylabel="cross-entropy (nats)")
plt.show()

# %% [markdown]
# Held-out images tell how good it is.

# %%
logits, _ = model.apply(train_state.params, train_state.state, test[0])
accuracy = float(evaluation.correct(logits, test[1]).mean())
assert accuracy > 0.9
print(f"accuracy on {len(test[1])} test images: {accuracy:.3f}")
