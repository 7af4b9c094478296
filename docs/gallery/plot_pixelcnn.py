"""
PixelCNN: temperature
=====================

Digits drawn pixel by pixel, from sharpened distributions and from those that it learned.
The call trains the system, or opens the run where it is finished.
"""

import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from dlcore.train import session

runs = Path(os.environ.get("DLCORE_RUNS", "runs"))
run = session.train("pixelcnn", data="digits", preset="smoke", folder=runs / "pixelcnn")

settings = [{"temperature": 0.5}, {"temperature": 0.8}, {"temperature": 1.0}]
fig, grid = plt.subplots(len(settings), 10, figsize=(7, 0.95 * len(settings)), layout="constrained", squeeze=False)
for row, options in zip(grid, settings, strict=True):
    for axes, image in zip(row, np.asarray(run.sample(10, key=0, **options)), strict=True):
        axes.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
        axes.axis("off")
    row[0].set_title(", ".join(f"{name} {value}" for name, value in options.items()), fontsize=8, loc="left")
plt.show()
