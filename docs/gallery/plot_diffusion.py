"""
Diffusion: fewer steps
======================

Digits from the same noise by 2, 5 and 25 steps of a second-order sampler.
The call trains the system, or opens the run where it is finished.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dlcore.train import session

runs = Path(os.environ.get("DLCORE_RUNS", "runs"))
run = session.train("diffusion", data="digits", preset="smoke", folder=runs / "diffusion")

settings = [{"steps": 2}, {"steps": 5}, {"steps": 25}]
fig, grid = plt.subplots(len(settings), 10, figsize=(7, 0.95 * len(settings)), layout="constrained", squeeze=False)
for row, options in zip(grid, settings, strict=True):
    for axes, image in zip(row, np.asarray(run.sample(10, key=0, **options)), strict=True):
        axes.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
        axes.axis("off")
    row[0].set_title(", ".join(f"{name} {value}" for name, value in options.items()), fontsize=8, loc="left")
plt.show()
