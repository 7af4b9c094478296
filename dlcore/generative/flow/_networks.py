"""Flows put together: RealNVP (Dinh et al. 2017) and Glow (Kingma & Dhariwal 2018) for images and points, MAF for
points.

Images [b, h, w, c] become flat latents [b, h·w·c], points [b, d] stay [b, d]. Every coupling gets a conditioner of its
own from a factory, `conditioner(shape, outputs) -> Model`, told the shape of an example at the coupling; its last
layer should start at zero, so that the flow starts linear. With `conditional` these networks take a condition as well,
`(x, condition)`, and so does the flow.
"""

from collections.abc import Callable, Sequence
from typing import Any

from dlcore.generative.flow._autoregressive import Autoregressive
from dlcore.generative.flow._chain import Flatten, chain, split
from dlcore.generative.flow._coupling import AffineCoupling, Coupling, moved_channels
from dlcore.generative.flow._linear import ActNorm, InvertibleConv, InvertibleConvPLU, Permutation, reversed_order
from dlcore.generative.flow._spline import rational_quadratic
from dlcore.generative.flow._squeeze import Squeeze
from dlcore.generative.flow._transform import Transform, affine
from dlcore.setting import Number, whole
from dlcore.types import Bijector, Model

Conditioner = Callable[[Sequence[int], int], Model]
PERMUTATIONS = ("plu", "plain", "reverse")


def RealNVP(
    shape: Sequence[int],
    conditioner: Conditioner,
    *,
    scales: int = 2,
    steps: int = 6,
    transform: Transform | None = None,
    conditional: bool = False,
) -> Bijector:
    """Couplings with alternating masks, each behind an actnorm, that apply `transform`, or `affine()` if not given.

    Points: `steps` channel couplings. Images: at each scale `steps`/2 checkerboard couplings, a squeeze, and as many
    channel couplings, behind which half of the channels leave (all of them at the last scale). Raises `ValueError`
    for sides that 2^scales does not divide.
    """
    couple, steps = _coupled(conditioner, transform, conditional), whole(steps, "RealNVP: steps")
    if len(shape) == 1:
        return alternating(shape, couple, steps, "channel")
    inner, half = _squeezed(shape, scales), max(steps // 2, 1)
    parts = {
        "checkerboard": alternating(shape, couple, half, "checkerboard"),
        "squeeze": Squeeze(),
        "channel": alternating(inner, couple, half, "channel"),
    }
    if scales == 1:
        return chain(**parts, flatten=Flatten(inner))
    options = {"scales": scales - 1, "steps": steps, "transform": transform, "conditional": conditional}
    rest = RealNVP((*inner[:-1], inner[-1] // 2), conditioner, **options)
    return chain(**parts, rest=split(rest, inner))


def _coupled(conditioner: Conditioner, transform: Transform | None, conditional: bool) -> Callable[..., Bijector]:
    """`couple(shape, mask, flip)`: a coupling with a conditioner of its own."""
    applied = affine() if transform is None else transform

    def couple(shape: Sequence[int], mask: str = "channel", flip: bool = False) -> Bijector:
        network = conditioner(shape, applied.numbers * moved_channels(shape[-1], mask, flip=flip))
        return Coupling(network, applied, mask=mask, flip=flip, conditional=conditional)

    return couple


def alternating(shape: Sequence[int], couple: Callable[..., Bijector], steps: int, mask: str) -> Bijector:
    """`steps` couplings `couple(shape, mask, flip)`, each behind an actnorm, in which the halves take turns."""
    parts = {}
    for i in range(steps):
        parts[f"step_{i}"] = chain(act_norm=ActNorm(), coupling=couple(shape, mask, bool(i % 2)))
    return chain(**parts)


def checkerboard(shape: Sequence[int], conditioner: Conditioner, steps: int, *, bound: Number = 2.0) -> Bijector:
    """`steps` affine couplings of an image by alternating checkerboards, told another: the noise of `variational`.

    The networks of `conditioner` take a condition.
    """

    def couple(shape: Sequence[int], mask: str, flip: bool) -> Bijector:
        network = conditioner(shape, 2 * shape[-1])
        return AffineCoupling(network, mask=mask, flip=flip, bound=bound, conditional=True)

    return alternating(shape, couple, steps, "checkerboard")


def Glow(
    shape: Sequence[int],
    conditioner: Conditioner,
    *,
    scales: int = 2,
    steps: int = 8,
    transform: Transform | None = None,
    permutation: str = "plu",
    factor_out: bool = True,
    seed: int = 0,
    conditional: bool = False,
) -> Bijector:
    """Steps of actnorm, invertible mixing of the channels and channel coupling by `transform`, `affine()` if not given.

    Points: `steps` of them. Images: `scales` times a squeeze and `steps` steps; between scales half of the channels
    leave, or with `factor_out=False` none, which suits small images. `permutation` is "plu" or "plain" (1×1
    convolution) or "reverse" (fixed); `seed` draws the rotations that "plu" starts at. Raises `ValueError` for another
    permutation, or sides that 2^scales does not divide.
    """
    steps = whole(steps, "Glow: steps")
    if permutation not in PERMUTATIONS:
        raise ValueError(f"permutation must be one of {', '.join(PERMUTATIONS)}, got {permutation!r}")

    couple = _coupled(conditioner, transform, conditional)

    def step(shape: Sequence[int], index: int) -> Bijector:
        channels = shape[-1]
        mixers = {
            "plu": lambda: InvertibleConvPLU(channels, seed=1000 * seed + index),
            "plain": InvertibleConv,
            "reverse": lambda: Permutation(reversed_order(channels)),
        }
        return chain(act_norm=ActNorm(), mix=mixers[permutation](), coupling=couple(shape))

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
    scales = whole(scales, "scales")
    if height % 2**scales or width % 2**scales:
        raise ValueError(f"{height}×{width} pixels cannot be halved {scales} times; lower scales (to at least 1)")
    return height // 2, width // 2, 4 * channels


def MAF(
    size: int,
    conditioner: Conditioner,
    *,
    steps: int = 4,
    transform: Transform | None = None,
    conditional: bool = False,
) -> Bijector:
    """Masked autoregressive flow of points [b, size]: `steps` of actnorm and `Autoregressive`, the order reversed
    between them (Papamakarios et al. 2017).

    Here `conditioner` gives networks like `dlcore.networks.MADE`. From data to latent it is one pass, back `size`
    passes per step. `IAF`, which is cheap in the other direction, is `invert(MAF(...))`.
    """
    applied = affine() if transform is None else transform
    parts = {}
    steps = whole(steps, "MAF: steps")
    for i in range(steps):
        network = conditioner((size,), applied.numbers * size)
        step = {"act_norm": ActNorm(), "autoregressive": Autoregressive(network, applied, conditional=conditional)}
        turned = {"order": Permutation(reversed_order(size))} if i < steps - 1 else {}
        parts[f"step_{i}"] = chain(**step, **turned)
    return chain(**parts)


def transform_by_name(name: str, *, bound: Number = 2.0, bins: int = 8) -> Transform:
    """What couplings apply: "affine" with its `bound`, or "spline" with its `bins`. Raises `ValueError` for another."""
    makers = {"affine": lambda: affine(bound), "spline": lambda: rational_quadratic(bins)}
    if name not in makers:
        raise ValueError(f"coupling must be one of {', '.join(makers)}, got {name!r}")
    return makers[name]()


def by_name(
    name: str, shape: Sequence[int], conditioner: Conditioner, *, permutation: str, factor_out: bool, **options: Any
) -> Bijector:
    """`Glow` or `RealNVP`, for "glow" and "real_nvp"; `permutation` and `factor_out` are for the former.

    Raises `ValueError` for another name.
    """
    makers = {
        "glow": lambda: Glow(shape, conditioner, permutation=permutation, factor_out=factor_out, **options),
        "real_nvp": lambda: RealNVP(shape, conditioner, **options),
    }
    if name not in makers:
        raise ValueError(f"flow must be one of {', '.join(makers)}, got {name!r}")
    return makers[name]()
