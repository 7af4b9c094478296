"""The density of the Hessian's eigenvalues of a loss, on a scale that shows both ends and the bulk (lecture 4.3, 7)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from dlcore.optim import Density, extreme_eigenvalues, hvp, smooth, spectral_density
from dlcore.types import Key, Params


class Spectrum(NamedTuple):
    """Eigenvalues of a Hessian as a density."""

    at: Float[np.ndarray, " points"]
    """λ."""
    density: Float[np.ndarray, " points"]
    """Per unit of λ; it integrates to 1."""
    extremes: tuple[float, float]
    """λmin and λmax."""
    unit: float
    """The scale is asinh(λ/unit): linear within the unit around 0 and logarithmic on either side."""


def hessian_spectrum(
    loss: Callable[..., Float[Array, ""]], params: Params, *inputs: Any, key: Key, steps: int, probes: int
) -> Spectrum:
    """That of `loss(params, *inputs)` in `params`, by stochastic Lanczos quadrature with so many steps and probes."""

    def product(v: Params, params: Params, *inputs: Any) -> Params:
        return hvp(lambda p: loss(p, *inputs), params, v)

    given = (product, params, params, *inputs)
    found = extreme_eigenvalues(*given, key=key, steps=steps, tolerance=1e-3)
    extremes = found.smallest, found.largest
    unit = 3e-3 * max(map(abs, extremes))
    density = spectral_density(*given, key=key, steps=steps, probes=probes)
    return Spectrum(*asinh_density(density, extremes, unit), extremes, unit)


def asinh_density(
    density: Density, extremes: tuple[float, float], unit: float, width: float = 0.15
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """λ and the density there, smoothed by a normal of deviation `width` on the scale asinh(λ/`unit`)."""
    nodes = density._replace(nodes=np.arcsinh(density.nodes / unit))
    first, last = np.arcsinh(np.array([min(extremes[0], -unit), extremes[1]]) / unit)
    t = np.linspace(first - 4 * width, last + 4 * width, 800)
    # Per unit of λ: dt/dλ = 1/√(λ² + s²).
    at = unit * np.sinh(t)
    return at, smooth(nodes, t, width) / np.sqrt(at**2 + unit**2)
