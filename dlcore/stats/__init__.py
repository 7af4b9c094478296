"""Probability and statistics as pure functions (lecture 2–3)."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
