"""Encoders and decoders of images in pairs, by name (lecture 19, 24)."""

from collections.abc import Sequence

from dlcore.lookup import lookup
from dlcore.networks._autoencoder import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from dlcore.nn import cropped, padded_sides
from dlcore.types import Model


def coders(
    name: str, widths: Sequence[int], numbers: int, shape: Sequence[int], *, activation: str = "gated"
) -> tuple[Model, Model]:
    """An encoder of images to `numbers`, and a decoder of codes to arrays of `shape` [h, w, c].

    "mlp" has hidden layers of `widths` and their `activation`, "conv" channels of these that halve the sides, and SiLU;
    the decoder has them in reverse. Raises `ValueError` for another name.
    """

    def mlp() -> tuple[Model, Model]:
        encoder = MLPEncoder(widths, numbers, activation=activation)
        return encoder, MLPDecoder(widths[::-1], shape, activation=activation)

    def conv() -> tuple[Model, Model]:
        drawn = ConvDecoder(widths[::-1], padded_sides(shape, 2 ** len(widths)))
        return ConvEncoder(widths, numbers), cropped(drawn, *shape[:2])

    return lookup("model", name, {"mlp": mlp, "conv": conv})()
