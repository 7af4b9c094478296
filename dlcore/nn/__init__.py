"""Layers and combinators as pure functions (lecture 8, 10, 12–15)."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
