"""What an output depends on, drawn as maps of gradients."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure


def maps(gradients: Mapping[str, np.ndarray], site: tuple[int, int], title: str) -> Figure:
    """One panel per name: |d output at `site` / d input| [h, w] by magnitude, inputs without any influence in grey."""
    figure = Figure(figsize=(3.4 * len(gradients), 3.6), layout="constrained")
    axes = figure.subplots(1, len(gradients), squeeze=False)[0]
    for ax, (name, gradient) in zip(axes, gradients.items(), strict=True):
        values = np.where(gradient > 0, gradient, np.nan)
        ax.set_facecolor("#d9d9d9")
        ax.imshow(np.log10(values), cmap="viridis")
        ax.plot(site[1], site[0], marker="s", markersize=9, color="#D55E00", linestyle="none")
        ax.set_title(name, fontsize=10)
        ax.set_xticks([])
        ax.set_yticks([])
    figure.suptitle(title, fontsize=10)
    return figure
