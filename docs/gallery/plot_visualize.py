"""
Looking inside: what a class was seen by
========================================

Saliency and integrated gradients of a classifier of digits. The call trains it, or opens the run where it is finished.
"""

import os
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from dlcore import networks, visualize
from dlcore.train import session

runs = Path(os.environ.get("DLCORE_RUNS", "runs"))
run = session.train("classify", data="digits", preset="smoke", folder=runs / "classify")
model = networks.CNN(run.config.widths, 10, activation=run.config.activation, pool=run.config.pool)

rows = run.run.data.test.arrays
images, labels = rows["image"][:6], jnp.asarray(rows["label"][:6])
seen = run.fit.preprocess({"image": jnp.asarray(images)}, key=None, train=False)["image"]
given = (model, run.params, run.state, seen, labels)
lines = {
    "test images": images,
    "saliency": visualize.saliency(*given),
    "integrated gradients": visualize.integrated_gradients(*given),
}

fig, grid = plt.subplots(len(lines), 6, figsize=(6.5, 3.6), layout="constrained")
for row, (name, maps) in zip(grid, lines.items(), strict=True):
    for axes, picture in zip(row, np.asarray(maps), strict=True):
        axes.imshow(picture.reshape(8, 8), cmap="RdBu" if name.startswith("int") else "gray_r")
        axes.axis("off")
    row[0].set_title(name, fontsize=8, loc="left")
plt.show()
