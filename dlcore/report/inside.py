"""Figures of what is inside a classifier as panels: attributions, the page of all of them, images found by descent.

Arrays come by method or by stage, as a run keeps them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from dlcore.report.panel import Panel, panel


def attributions(
    arrays: Mapping[str, Any],
    methods: Sequence[str],
    signed: Sequence[str],
    classes: Sequence[str],
    groups: Sequence[str],
) -> dict[str, Panel]:
    """Maps side by side, curves of deletion and insertion, and what is left as the parts `groups` forget."""
    shown, drawn = arrays["images"], [name for name in methods if name != "random"]
    titles = [classes[k] for k in shown["predicted"]]
    of = lambda what, names=methods: {name: arrays[name][what] for name in names}  # noqa: E731
    return {
        "attributions": panel("maps.attributions", shown["images"], of("maps", drawn), signed, titles),
        "curves": panel("maps.curves", of("deletion"), of("insertion")),
        "forgetting": panel("maps.forgetting", groups, of("kept")),
    }


def explorer(
    arrays: Mapping[str, Any], layers: Mapping[str, Sequence[str]], signed: Sequence[str], classes: Sequence[str]
) -> Panel:
    """The page of all images and classes; `layers` are those of each method, in the order of its maps."""
    maps = {name: dict(zip(layers[name], arrays[name]["maps"], strict=True)) for name in layers}
    shown = arrays["images"]
    return panel("explorer.attributions", shown["images"], maps, shown["answers"], classes, signed)


def found(
    arrays: Mapping[str, Any], stages: Sequence[str], prices: Sequence[float], classes: Sequence[str]
) -> dict[str, Panel]:
    """Images that the classes answer to most, at several prices of total variation, and what stages keep of images."""
    best = [(f"TV × {price:g}", images) for price, images in zip(prices, arrays["classes"]["images"], strict=True)]
    rows = [("image", arrays["classes"]["shown"]), *((path, arrays[path]["images"]) for path in stages)]
    return {
        "classes": panel("images.rows", best, ", ".join(classes[:10])),
        "inverted": panel("images.rows", rows, "what is left of an image behind each stage"),
    }
