"""
Variational autoencoder: temperature
====================================

Digits whose codes are drawn close to the mean of the prior, and as the prior has them.
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
run = session.train("vae", data="digits", preset="smoke", folder=runs / "vae")

settings = [{"temperature": 0.4}, {"temperature": 0.7}, {"temperature": 1.0}]
fig, lines = plt.subplots(len(settings), 1, figsize=(7, 0.95 * len(settings)), layout="constrained")
for axes, options in zip(lines, settings, strict=True):
    images.show(axes, image_grid(np.asarray(run.sample(10, key=0, **options)), columns=10, gap=1))
    axes.set_title(", ".join(f"{name} {value}" for name, value in options.items()), fontsize=8, loc="left")
plt.show()
