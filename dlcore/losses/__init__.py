"""Losses, unreduced, and the objectives that reduce them (lecture 3, 10)."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
