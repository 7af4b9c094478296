"""Whether a schedule lets stochastic gradient descent converge: Σε_k = ∞ and Σε_k² < ∞ (lecture 6.4)."""

import math
from typing import NamedTuple

import numpy as np

from dlcore.optim.schedules import Schedule

FAR = 96
"""log₂ of the furthest step looked at: float32 still holds it, and 1/k there."""


class RobbinsMonro(NamedTuple):
    """The two conditions, and whether both hold."""

    sum_diverges: bool
    """Σ ε_k = ∞: it can reach any distance."""
    squares_converge: bool
    """Σ ε_k² < ∞: the noise that it gathers is finite."""

    @property
    def holds(self) -> bool:
        """Both (Robbins & Monro 1951, conditions 6 and 27)."""
        return self.sum_diverges and self.squares_converge


def robbins_monro(schedule: Schedule) -> RobbinsMonro:
    """Classify a schedule by its tail.

    Method: no finite sum can tell, so the tail is taken for eventually decreasing, where by Cauchy's condensation
    Σ ε_k and Σ_j 2ʲ ε(2ʲ) converge or diverge together. The terms a_j of the latter are taken for geometric
    decay, rʲ (a power law k^−p has r = 2^(1−p)), or a power j^−q (a factor (log k)^−q). Local exponents of a_j between
    j = 24, 48 and 96, e = −log₂(a_2j/a_j), tell which: of a power they stay equal, and the sum converges if they exceed
    1; of geometric decay they double, and it converges. So 1/k and 1/(k log k) diverge, 1/(k log² k) and k^−1.001
    converge. Squares likewise. A rate that reaches 0 has finite sums. What happens after step 2⁹⁶ stays unseen.
    Raises `ValueError` for rates that are negative or not finite.
    """
    rates = np.array([float(schedule(2.0**j)) for j in (FAR // 4, FAR // 2, FAR)])
    if not (np.isfinite(rates).all() and (rates >= 0).all()):
        raise ValueError(f"robbins_monro: rates must be finite and not negative, got {rates} at steps 2^24, 2^48, 2^96")
    return RobbinsMonro(_condensed_diverges(rates, 1), not _condensed_diverges(rates, 2))


def _condensed_diverges(rates: np.ndarray, power: int) -> bool:
    """Whether Σ_j 2ʲ ε(2ʲ)^power diverges, by the exponents of its terms."""
    if rates[-1] == 0:
        return False
    logs = np.array([FAR // 4, FAR // 2, FAR]) + power * np.log2(rates)
    early, late = -np.diff(logs)
    geometric = late > 1e-3 and late > 1.5 * max(early, 0.0)
    return not (geometric or late > 1 + 1e-3) and math.isfinite(late)
