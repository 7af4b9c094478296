"""Flows put together: RealNVP (Dinh et al. 2017) and Glow (Kingma & Dhariwal 2018), for images and points.

Images [b, h, w, c] become flat latents [b, h·w·c], points [b, d] stay [b, d]. Every coupling gets a conditioner of its
own from a factory, `conditioner(shape, outputs) -> Model`, told the shape of an example at the coupling; its last
layer should start at zero, so that the flow starts linear.
"""

from collections.abc import Callable, Sequence

from dlcore.generative.flow._chain import Flatten, chain, split
from dlcore.generative.flow._coupling import AffineCoupling, moved_channels
from dlcore.generative.flow._linear import ActNorm, InvertibleConv, InvertibleConvPLU, Permutation, reversed_order
from dlcore.generative.flow._squeeze import Squeeze
from dlcore.types import Bijector, Model

Conditioner = Callable[[Sequence[int], int], Model]
MIXES = ("plu", "plain", "reverse")


def RealNVP(
    shape: Sequence[int], conditioner: Conditioner, *, scales: int = 2, steps: int = 6, bound: float = 2.0
) -> Bijector:
    """Couplings with alternating masks, each behind an actnorm.

    Points: `steps` channel couplings. Images: at each scale `steps`/2 checkerboard couplings, a squeeze, and as many
    channel couplings, behind which half of the channels leave (all of them at the last scale). Raises `ValueError`
    for sides that 2^scales does not divide.
    """
    if len(shape) == 1:
        return _steps(shape, conditioner, steps, bound, "channel")
    inner, half = _squeezed(shape, scales), max(steps // 2, 1)
    parts = {
        "checkerboard": _steps(shape, conditioner, half, bound, "checkerboard"),
        "squeeze": Squeeze(),
        "channel": _steps(inner, conditioner, half, bound, "channel"),
    }
    if scales == 1:
        return chain(**parts, flatten=Flatten(inner))
    rest = (*inner[:-1], inner[-1] // 2)
    return chain(**parts, rest=split(RealNVP(rest, conditioner, scales=scales - 1, steps=steps, bound=bound), inner))


def _steps(shape: Sequence[int], conditioner: Conditioner, steps: int, bound: float, mask: str) -> Bijector:
    parts = {}
    for i in range(steps):
        flip = bool(i % 2)
        network = conditioner(shape, 2 * moved_channels(shape[-1], mask, flip=flip))
        parts[f"step_{i}"] = chain(
            act_norm=ActNorm(), coupling=AffineCoupling(network, mask=mask, flip=flip, bound=bound)
        )
    return chain(**parts)


def Glow(
    shape: Sequence[int],
    conditioner: Conditioner,
    *,
    scales: int = 2,
    steps: int = 8,
    bound: float = 2.0,
    mix: str = "plu",
    factor_out: bool = True,
    seed: int = 0,
) -> Bijector:
    """Steps of actnorm, invertible mixing of the channels and channel coupling.

    Points: `steps` of them. Images: `scales` times a squeeze and `steps` steps; between scales half of the channels
    leave, or with `factor_out=False` none, which suits small images. `mix` is "plu" or "plain" (1×1 convolution) or
    "reverse" (a fixed permutation); `seed` draws the rotations that "plu" starts at. Raises `ValueError` for another
    mix, or sides that 2^scales does not divide.
    """
    if mix not in MIXES:
        raise ValueError(f"mix must be one of {', '.join(MIXES)}, got {mix!r}")

    def step(shape: Sequence[int], index: int) -> Bijector:
        channels = shape[-1]
        mixers = {
            "plu": lambda: InvertibleConvPLU(channels, seed=1000 * seed + index),
            "plain": InvertibleConv,
            "reverse": lambda: Permutation(reversed_order(channels)),
        }
        coupling = AffineCoupling(conditioner(shape, 2 * moved_channels(channels, "channel")), bound=bound)
        return chain(act_norm=ActNorm(), mix=mixers[mix](), coupling=coupling)

    def scale(shape: Sequence[int], index: int) -> Bijector:
        inner = _squeezed(shape, scales - index)
        parts = {f"step_{i}": step(inner, index * steps + i) for i in range(steps)}
        if index == scales - 1:
            return chain(squeeze=Squeeze(), **parts, flatten=Flatten(inner))
        if not factor_out:
            return chain(squeeze=Squeeze(), **parts, rest=scale(inner, index + 1))
        rest = scale((*inner[:-1], inner[-1] // 2), index + 1)
        return chain(squeeze=Squeeze(), **parts, rest=split(rest, inner))

    if len(shape) == 1:
        return chain(**{f"step_{i}": step(shape, i) for i in range(steps)})
    return scale(shape, 0)


def _squeezed(shape: Sequence[int], scales: int) -> tuple[int, int, int]:
    height, width, channels = shape
    if scales < 1 or height % 2**scales or width % 2**scales:
        raise ValueError(f"{height}×{width} pixels cannot be halved {scales} times; lower scales (to at least 1)")
    return height // 2, width // 2, 4 * channels
