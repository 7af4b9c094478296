"""
Convolution: edges, and a group
===============================

An ordinary convolution sees edges in one direction; taken over the rotations, its largest output turns with the image.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt

from dlcore import data, nn

digit = jnp.asarray(data.load("digits").test.arrays["image"][3:4], jnp.float32) / 15
sobel = jnp.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]).reshape(3, 3, 1, 1)
turned = jnp.rot90(digit, axes=(1, 2))


def over_rotations(x):
    """The largest response among those to the kernel and to its three rotations."""
    return nn.lift(x, sobel, group="p4").max(-2)


pictures = {
    "digit": digit,
    "convolution": nn.conv(digit, sobel),
    "over rotations": over_rotations(digit),
    "turned": turned,
    "convolution, turned": nn.conv(turned, sobel),
    "over rotations, turned": over_rotations(turned),
}
fig, grid = plt.subplots(2, 3, figsize=(6.5, 4.6), layout="constrained")
for axes, (name, picture) in zip(grid.flat, pictures.items(), strict=True):
    axes.imshow(picture[0, ..., 0], cmap="gray" if name in ("digit", "turned") else "RdBu")
    axes.set_title(name, fontsize=9)
    axes.axis("off")
plt.show()
