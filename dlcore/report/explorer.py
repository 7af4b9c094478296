"""A page to look at attributions by hand: choose an image, a class, a method and a layer (lecture 17).

The page is one file of HTML that needs nothing beside itself, neither a server nor a network. What is chosen stands in
its address, behind #, so that a view can be kept as a link.
"""

import base64
import html
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np

from dlcore.report.figures import write_bytes

TEMPLATE = Path(__file__).with_name("explorer.html")
SIDE = 336
"""Pixels of the screen to which images are enlarged."""


class Page(NamedTuple):
    """A page of HTML, kept beside the figures."""

    html: str

    def save(self, path: Path) -> None:
        """Write it, so that a kill leaves the old content or the new."""
        write_bytes(path, self.html.encode("utf-8", "backslashreplace"))


def attributions(
    images: np.ndarray,
    maps: Mapping[str, Mapping[str, np.ndarray]],
    probabilities: np.ndarray,
    classes: Sequence[str],
    signed: Sequence[str] = (),
    title: str = "Why this class?",
) -> Page:
    """A page of images [n, h, w, c] in [0, 1] and of the maps [n, k, h, w] why each would be in each of k classes.

    `maps` are given by method and by layer, "" for a method that looks at none. Maps of `signed` methods are red where
    they are positive and blue where they are negative; of the others, bright is large; each map has a scale of its own.
    `probabilities` [n, k] are those of the network. Raises `ValueError` where these do not fit together.
    """
    for method, layers in maps.items():
        for layer, found in layers.items():
            if found.shape != (len(images), len(classes), *images.shape[1:3]):
                raise ValueError(
                    f"attributions: maps of {method} {layer!r} are {found.shape}, expected "
                    f"{(len(images), len(classes), *images.shape[1:3])}: images, classes, height, width"
                )
    if probabilities.shape != (len(images), len(classes)):
        raise ValueError(f"attributions: probabilities are {probabilities.shape}, not by image and class")
    told = {
        "classes": list(classes),
        "probabilities": np.round(np.asarray(probabilities, float), 4).tolist(),
        "images": [_png(np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)) for image in images],
        "height": images.shape[1],
        "width": images.shape[2],
        "maps": {
            method: {layer: [_png(sheet(one, method in signed)) for one in found] for layer, found in layers.items()}
            for method, layers in maps.items()
        },
    }
    scale = max(1, SIDE // max(images.shape[1:3]))
    size = {"WIDTH": str(scale * images.shape[2]), "HEIGHT": str(scale * images.shape[1])}
    # A text that ends the script would end the page.
    fields = {**size, "TITLE": html.escape(title), "DATA": json.dumps(told).replace("</", "<\\/")}
    page = TEMPLATE.read_text(encoding="utf-8")
    for name, value in fields.items():
        page = page.replace(f"@{name}@", value)
    return Page(page)


def sheet(maps: np.ndarray, signed: bool) -> np.ndarray:
    """Maps [k, h, w] in colours side by side, uint8 [h, k·w, 3], each by its own largest magnitude, or its range."""
    low, high = (edge(maps.astype(float), axis=(1, 2), keepdims=True) for edge in (np.min, np.max))
    if signed:
        high = np.maximum(np.abs(low), np.abs(high))
        low = -high
    fraction = (maps - low) / np.where(high > low, high - low, 1)
    fraction = np.where(high > low, fraction, 0.5 if signed else 0.0)
    colours = matplotlib.colormaps["RdBu_r" if signed else "magma"](fraction, bytes=True)[..., :3]
    return np.concatenate(list(colours), axis=1)


def _png(image: np.ndarray) -> str:
    """A uint8 image [h, w, c] as an address that holds it."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
