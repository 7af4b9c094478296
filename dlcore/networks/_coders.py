"""Encoders and decoders of images in pairs, by name (lecture 19, 24)."""

from collections.abc import Sequence

from dlcore.lookup import lookup
from dlcore.networks._autoencoder import ConvDecoder, ConvEncoder, MapDecoder, MapEncoder, MLPDecoder, MLPEncoder
from dlcore.nn import cropped, padded_sides
from dlcore.types import Model


def coders(
    name: str,
    widths: Sequence[int],
    numbers: int,
    shape: Sequence[int],
    *,
    activation: str = "gated",
    code: str = "linear",
    keep: int = 0,
    patch: int = 4,
) -> tuple[Model, Model]:
    """An encoder of images to `numbers`, and a decoder of codes to arrays of `shape` [h, w, c].

    "mlp" has hidden layers of `widths` and their `activation`, "conv" channels of these that halve the sides, and SiLU;
    "map" has blocks of these, and so many `numbers` for each patch of `patch` pixels each way. The decoder has them in
    reverse. `code` is the activation of the code; with `keep` only so many of its units are not 0. Raises `ValueError`
    for another name, and for `keep` of a map.
    """

    def mlp() -> tuple[Model, Model]:
        encoder = MLPEncoder(widths, numbers, activation=activation, code=code, keep=keep)
        return encoder, MLPDecoder(widths[::-1], shape, activation=activation)

    def conv() -> tuple[Model, Model]:
        drawn = ConvDecoder(widths[::-1], padded_sides(shape, 2 ** len(widths)))
        return ConvEncoder(widths, numbers, code=code, keep=keep), cropped(drawn, *shape[:2])

    def by_place() -> tuple[Model, Model]:
        if keep:
            raise ValueError(f"keep={keep} chooses among the units of a dense code; use mlp or conv for it")
        drawn = MapDecoder(widths[::-1], numbers, padded_sides(shape, patch), patch=patch)
        return MapEncoder(widths, numbers, patch=patch, code=code), cropped(drawn, *shape[:2])

    return lookup("model", name, {"mlp": mlp, "conv": conv, "map": by_place})()
