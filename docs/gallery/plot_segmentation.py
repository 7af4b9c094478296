"""
Segmentation: pictures composed of digits
=========================================

Digits placed on a canvas, with the mask of each: what `segment` trains on, as many as wanted from few images.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt

from dlcore import data

rows = data.load("digits").train.arrays
first = [jnp.asarray(rows[name][:12]) for name in ("image", "label")]
objects, labels = (values.reshape(4, 3, *values.shape[1:]) for values in first)
pictures, masks = data.compose_scenes(jax.random.split(jax.random.key(0), 4), objects, labels, side=24, levels=16)

fig, grid = plt.subplots(2, 4, figsize=(7, 3.6), layout="constrained")
for (above, below), image, mask in zip(grid.T, pictures, masks, strict=True):
    above.imshow(image[..., 0], cmap="gray_r")
    below.imshow(mask, cmap="tab20", vmin=0, vmax=19)
    above.axis("off")
    below.axis("off")
plt.show()
