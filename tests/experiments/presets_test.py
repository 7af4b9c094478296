"""Presets from the command line to the summary: on digits, on drawn icons, on a folder of icons as a desktop has it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
OXYGEN = Path("/usr/share/icons/oxygen/base/32x32")
DENSITIES = {
    "vae": ("smoke", "default", "manifold", "conv", "hierarchical", "eight_bit", "full"),
    "pixelcnn": ("smoke", "default", "masked", "full"),
    "flow": ("smoke", "default", "real_nvp", "full"),
    "diffusion": ("smoke", "default", "full"),
}
SYSTEMS = (
    "autoencoder", "bagging", "bias_variance", "capacity", "classify", "diffusion", "flow", "gan",
    "generative_classifier", "hashing", "initialisation", "optimizers", "pca", "pixelcnn", "segment", "stacked", "vae",
)  # fmt: skip


def trained(folder, *flags):
    line = [sys.executable, "-m", "launch.train", f"--workdir={folder}", *flags]
    done = subprocess.run(line, env=ENVIRONMENT, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "summary.json").read_text()), done.stdout


PRESETS = [
    pytest.param(name, preset, marks=[] if preset == "smoke" else pytest.mark.long, id=f"{name}-{preset}")
    for name in DENSITIES
    for preset in DENSITIES[name]
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), PRESETS)
def test_no_likelihood_on_digits_is_worse_than_the_histogram_beside_it(name, preset, tmp_path):
    flags = (f"--experiment={name}", "--data=digits", f"--preset={preset}", "--set=quality_samples=0")
    summary, _ = trained(tmp_path / "run", *flags)
    metrics = summary["metrics"]
    assert metrics["test/bits_per_dim"] < metrics["test/histogram_bits_per_dim"]


def icon(rng, kind, sides):
    """A transparent picture with one coloured shape, drawn anew each time."""
    image = Image.new("RGBA", sides, (0, 0, 0, 0))
    colour = (*(int(c) for c in rng.integers(30, 226, 3)), int(rng.integers(128, 256)))
    left, top = (int(v) for v in rng.integers(0, min(sides) // 3, 2))
    box = (left, top, left + sides[0] // 2, top + sides[1] // 2)
    draw = ImageDraw.Draw(image)
    {"disc": draw.ellipse, "frame": draw.rectangle}[kind](box, fill=colour)
    return image


@pytest.fixture(scope="module")
def icons(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("icons"), np.random.default_rng(0)
    for kind in ("disc", "frame"):
        (folder / kind).mkdir()
        for i in range(40):
            sides = {0: (12, 12), 1: (16, 24)}.get(i, (16, 16))
            icon(rng, kind, sides).save(folder / kind / f"{i}.png")
    return folder


def assert_trained(name, summary, printed, folder):
    numbers = [value for value in summary["metrics"].values() if not isinstance(value, str)]
    assert np.isfinite(numbers).all()
    assert list(folder.glob("*/figures/*.png")) and (folder / "report.html").exists()
    told = [int(steps.replace(",", "")) for steps in re.findall(r"([\d,]+) steps of .* epochs of", printed)]
    assert told and sum(told) == summary["steps"], "each fit tells its own"
    if name == "classify":
        assert summary["metrics"]["test/accuracy"] > 0.2
    if name in DENSITIES:
        assert summary["metrics"]["test/bits_per_dim"] < 8, "worse than writing the pixels down"
        assert summary["metrics"]["test/bits_per_dim_of"] in ("x", "x given label")


@pytest.mark.slow
@pytest.mark.parametrize("name", SYSTEMS)
def test_smoke_on_drawn_icons(name, icons, tmp_path):
    flags = (f"--experiment={name}", "--preset=smoke", f"--data=folder:{icons}", "--image_size=16")
    summary, printed = trained(tmp_path / "run", *flags)
    assert_trained(name, summary, printed, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.skipif(not OXYGEN.is_dir(), reason="needs Debian's oxygen-icon-theme")
@pytest.mark.parametrize("name", SYSTEMS)
def test_smoke_on_a_folder_of_icons_as_it_is(name, tmp_path):
    flags = (f"--experiment={name}", "--preset=smoke", f"--data=folder:{OXYGEN}", "--image_size=32")
    summary, printed = trained(tmp_path / "run", *flags)
    assert_trained(name, summary, printed, tmp_path / "run")
