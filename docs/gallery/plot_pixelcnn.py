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

from dlcore.report import images
from dlcore.report.figures import image_grid
from dlcore.train import session

runs = Path(os.environ.get("DLCORE_RUNS", "runs"))
run = session.train("pixelcnn", data="digits", preset="smoke", folder=runs / "pixelcnn")

settings = [{"temperature": 0.5}, {"temperature": 0.8}, {"temperature": 1.0}]
fig, lines = plt.subplots(len(settings), 1, figsize=(7, 0.95 * len(settings)), layout="constrained")
for axes, options in zip(lines, settings, strict=True):
    images.show(axes, image_grid(np.asarray(run.sample(10, key=0, **options)), columns=10, gap=1))
    axes.set_title(", ".join(f"{name} {value}" for name, value in options.items()), fontsize=8, loc="left")
plt.show()
