"""
Retrieval: principal components
===============================

Digits from 1, 4 and 16 of 64 directions, and how much of the variance these keep.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt

from dlcore import data, retrieval

digits = data.load("digits")
pixels = jnp.asarray(digits.train.arrays["image"], jnp.float32).reshape(-1, 64) / 15
seen = jnp.asarray(digits.test.arrays["image"][:8], jnp.float32).reshape(-1, 64) / 15
fitted = retrieval.fit_svd(pixels, 64)

lines = {"test images": seen}
for k in (1, 4, 16):
    few = retrieval.keep(fitted, k)
    share = few.explained_variance.sum() / fitted.explained_variance.sum()
    lines[f"{k} of 64, {share:.0%} of the variance"] = retrieval.inverse_transform(few, retrieval.transform(few, seen))

fig, grid = plt.subplots(len(lines), 8, figsize=(6.5, 4), layout="constrained")
for row, (name, images) in zip(grid, lines.items(), strict=True):
    for axes, image in zip(row, images, strict=True):
        axes.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        axes.axis("off")
    row[0].set_title(name, fontsize=8, loc="left")
plt.show()
