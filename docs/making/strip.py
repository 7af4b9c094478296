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
    "optimizers": "race",
    "initialisation": "scaling",
    "bagging": "methods",
    "classify": "mistakes",
    "segment": "examples",
    "visualize": "attributions",
    "transfer": "transfer",
    "autoencoder": "reconstructions",
    "stacked": "few_labels",
    "pca": "components",
    "hashing": "neighbours",
    "vae": "samples",
    "gan": "samples",
    "flow --data=two_moons": "density",
    "diffusion": "denoising",
}
"""By run the figure that shows it."""
COLUMNS = 6


def draw(runs: Path, target: Path) -> None:
    """One small picture for each family, its name above it."""
    lines = -(-len(FAMILIES) // COLUMNS)
    figure = Figure(figsize=(11, 1.7 * lines), layout="constrained")
    for place, (run, name) in enumerate(FAMILIES.items(), 1):
        axes = figure.add_subplot(lines, COLUMNS, place)
        axes.imshow(cut(matplotlib.image.imread(picture(runs, run, name))), interpolation="antialiased")
        axes.set_title(run.split()[0].replace("_", " "), fontsize=8)
        axes.axis("off")
    figure.savefig(target, dpi=90, facecolor="white", pil_kwargs={"optimize": True})


def cut(image: np.ndarray) -> np.ndarray:
    """The upper left of a picture that is much wider or taller than others."""
    height, width = image.shape[:2]
    return image[: int(width / 1.2), : int(1.6 * height)]


if __name__ == "__main__":
    draw(ROOT / "build" / "docs" / "runs", ROOT / "docs" / "strip.png")
