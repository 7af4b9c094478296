"""The strip of pictures at the head of the README, from the runs that the pages have made.

python -m docs.making.strip
"""

from pathlib import Path

import matplotlib.image
import numpy as np
from matplotlib.figure import Figure

from docs.making.evidence import ROOT, picture

FAMILIES = {
    "capacity": "fits",
    "bias_variance": "networks",
    "optimizers": "race",
    "initialisation": "scaling",
    "bagging": "methods",
    "classify": "mistakes",
    "segment": "examples",
    "visualize": "attributions",
    "transfer": "transfer",
    "autoencoder": "filters",
    "stacked": "few_labels",
    "pca": "components",
    "hashing": "neighbours",
    "vae": "samples",
    "pixelcnn": "samples",
    "gan": "samples",
    "flow --data=two_moons": "density",
    "diffusion": "denoising",
}
"""By run the figure that shows it."""
COLUMNS = 9


def draw(runs: Path, target: Path) -> None:
    """One small picture for each family, its name above it."""
    lines = -(-len(FAMILIES) // COLUMNS)
    figure = Figure(figsize=(1.5 * COLUMNS, 1.65 * lines))
    figure.subplots_adjust(0.005, 0.005, 0.995, 1 - 0.15 / lines, wspace=0.05, hspace=0.14)
    for place, (run, name) in enumerate(FAMILIES.items(), 1):
        axes = figure.add_subplot(lines, COLUMNS, place)
        axes.imshow(square(matplotlib.image.imread(picture(runs, run, name))), interpolation="antialiased")
        axes.set_title(run.split()[0].replace("_", " "), fontsize=8, pad=3)
        axes.set(xticks=[], yticks=[])
    figure.savefig(target, dpi=110, facecolor="white", pil_kwargs={"optimize": True})


def square(image: np.ndarray) -> np.ndarray:
    """The largest square in the lower right of a picture: below titles, and one panel of several."""
    side = min(image.shape[:2])
    return image[-side:, -side:]


if __name__ == "__main__":
    draw(ROOT / "build" / "docs" / "runs", ROOT / "docs" / "strip.png")
