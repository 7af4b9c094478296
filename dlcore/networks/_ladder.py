"""Convolutional networks of a two-level autoencoder: codes at a half and a quarter of an image's sides (lecture 24).

The upper code is a map [h/4, w/4, u], the lower one [h/2, w/2, l]; both travel as flat vectors. Most of the work is
done at half the sides, where it costs a quarter. Images whose sides 4 does not divide are padded, and outputs cropped.
Residual blocks are h + γ ⊙ conv(φ(conv(φ(h)))), with γ small at first.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Array

from dlcore.nn import (
    Activation,
    Call,
    Conv,
    DepthToSpace,
    Function,
    LayerScale,
    compose,
    crop_sides,
    pad_sides,
    residual,
    serial,
    space_to_depth,
)
from dlcore.nn.init import zeros
from dlcore.types import Model


class Ladder(NamedTuple):
    """The sizes that all networks of a two-level autoencoder share."""

    sides: tuple[int, int]
    """Height and width of the images."""
    widths: tuple[int, int]
    """Channels at half and at a quarter of the sides."""
    channels: tuple[int, int]
    """Channels of the lower and of the upper code."""
    blocks: int = 1
    """Residual blocks in each network and at each resolution."""
    activation: str = "relu"

    @property
    def lower_map(self) -> tuple[int, int, int]:
        """Shape of the lower code."""
        height, width, _ = self.upper_map
        return 2 * height, 2 * width, self.channels[0]

    @property
    def upper_map(self) -> tuple[int, int, int]:
        """Shape of the upper code."""
        return -(-self.sides[0] // 4), -(-self.sides[1] // 4), self.channels[1]

    @property
    def lower(self) -> int:
        """Length of the lower code."""
        return math.prod(self.lower_map)

    @property
    def upper(self) -> int:
        """Length of the upper code."""
        return math.prod(self.upper_map)


def _blocks(width: int, ladder: Ladder) -> Model:
    def block() -> Model:
        act = ladder.activation
        body = (Activation(act), Conv(width, 3), Activation(act), Conv(width, 3), LayerScale(0.3))
        return residual(serial(*body))

    return serial(*(block() for _ in range(ladder.blocks)), Activation(ladder.activation))


def _up(ladder: Ladder) -> Model:
    """A map of the upper code to features at half of the sides."""
    low, high = ladder.widths
    stem = (Conv(high, 3), _blocks(high, ladder))
    return serial(*stem, Conv(4 * low, 1), DepthToSpace(2))


def _halves(shape: Sequence[int], start: float = 0.0) -> Model:
    """A map of features to μ and log σ of a flat code, which begin at 0 and at `start`."""
    channels = shape[-1]
    split = Function(lambda x: (x[..., :channels], x[..., channels:] + start), "halves")
    flat = Function(lambda pair: tuple(part.reshape(len(part), -1) for part in pair), "flat_pair")
    return serial(Conv(2 * channels, 3, kernel_init=zeros), split, flat)


def LadderEncoder(ladder: Ladder) -> Model:
    """Image [b, h, w, c] to μ and log σ of the upper code and the features [b, h/2, w/2, width] for the lower one."""
    low, high = ladder.widths
    parts = {
        "stem": Conv(low, 3),
        "low": _blocks(low, ladder),
        "down": Conv(high, 3, stride=2),
        "high": _blocks(high, ladder),
        "code": _halves(ladder.upper_map),
    }

    def forward(call: Call, x: Array) -> tuple[Array, Array, Array]:
        low = call("low", call("stem", space_to_depth(pad_sides(2 * x - 1, 4, "edge"), 2)))
        mean, log_std = call("code", call("high", call("down", low)))
        return mean, log_std, low

    return compose(forward, **parts)._replace(kind="ladder_encoder")


def LadderPosterior(ladder: Ladder) -> Model:
    """(z₂ [n, upper], features [n, h/2, w/2, width]) to μ and log σ of z₁, each [n, lower]."""
    parts = {"up": _up(ladder), "join": Conv(ladder.widths[0], 1), "blocks": _blocks(ladder.widths[0], ladder)}

    def forward(call: Call, z: Array, features: Array) -> tuple[Array, Array]:
        up = call("up", z.reshape(-1, *ladder.upper_map))
        return call("code", call("blocks", up + call("join", features)))

    return compose(forward, **parts, code=_halves(ladder.lower_map, -1.0))._replace(kind="ladder_posterior")


def LadderPrior(ladder: Ladder) -> Model:
    """z₂ [n, upper] to μ and log σ of p(z₁|z₂), each [n, lower]."""
    parts = {"up": _up(ladder), "blocks": _blocks(ladder.widths[0], ladder), "code": _halves(ladder.lower_map)}

    def forward(call: Call, z: Array) -> tuple[Array, Array]:
        return call("code", call("blocks", call("up", z.reshape(-1, *ladder.upper_map))))

    return compose(forward, **parts)._replace(kind="ladder_prior")


def LadderDecoder(ladder: Ladder, outputs: int, *, fine: int = 16) -> Model:
    """A code [z₂, z₁] [n, upper + lower] to [n, h, w, outputs], with `fine` channels at full resolution."""
    parts = {
        "up": _up(ladder),
        "join": Conv(ladder.widths[0], 3),
        "blocks": _blocks(ladder.widths[0], ladder),
        "fine": Conv(4 * fine, 3),
        "full": DepthToSpace(2),
        "act": Activation(ladder.activation),
        "head": Conv(outputs, 3),
    }

    def forward(call: Call, z: Array) -> Array:
        z2, z1 = z[:, : ladder.upper], z[:, ladder.upper :]
        up = call("up", z2.reshape(-1, *ladder.upper_map))
        h = call("blocks", up + call("join", z1.reshape(-1, *ladder.lower_map)))
        return crop_sides(call("head", call("act", call("full", call("fine", h)))), *ladder.sides)

    return compose(forward, **parts)._replace(kind="ladder_decoder")


def ladder(config: Ladder, outputs: int) -> tuple[Model, Model, Model, Model]:
    """Encoder, decoder to so many numbers per pixel, and the networks of posterior and prior of the lower code.

    Raises `ValueError` for other than two widths and two channels.
    """
    if len(config.widths) != 2 or len(config.channels) != 2:
        found = f"widths={config.widths} and channels={config.channels}"
        raise ValueError(f"ladder: {found}; want two numbers of each, for half and for a quarter of the sides")
    return LadderEncoder(config), LadderDecoder(config, outputs), LadderPosterior(config), LadderPrior(config)
