"""Normalising flows: bijections that compose, and the exact densities that they give (lecture 28)."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
