"""The strip of pictures at the head of the README, from the runs that the pages have made.

python -m docs.making.strip
"""

from pathlib import Path

import matplotlib.image
from matplotlib.figure import Figure

from docs.making.evidence import ROOT, picture

FAMILIES = {
    "capacity": "fits",
    "optimizers": "race",
    "initialisation": "curves",
    "bagging": "methods",
    "classify": "mistakes",
    "visualize": "attributions",
    "transfer": "transfer",
    "segment": "examples",
    "autoencoder": "reconstructions",
    "stacked": "few_labels",
    "pca": "components",
    "hashing": "neighbours",
    "generative_classifier": "samples",
    "vae": "samples",
    "pixelcnn": "samples",
    "gan": "samples",
    "flow": "samples",
    "diffusion": "samples",
}
"""By experiment the figure that shows it."""
COLUMNS = 6


def draw(runs: Path, target: Path) -> None:
    """One small picture for each family, its name above it."""
    lines = -(-len(FAMILIES) // COLUMNS)
    figure = Figure(figsize=(11, 1.9 * lines), layout="constrained")
    for axes, (experiment, name) in zip(figure.subplots(lines, COLUMNS).flat, FAMILIES.items(), strict=True):
        axes.imshow(
            matplotlib.image.imread(picture(runs, experiment, name)), aspect="equal", interpolation="antialiased"
        )
        axes.set_title(experiment.replace("_", " "), fontsize=8)
        axes.axis("off")
    figure.savefig(target, dpi=110, facecolor="white")


if __name__ == "__main__":
    draw(ROOT / "build" / "docs" / "runs", ROOT / "docs" / "strip.png")
