"""Schedules and optimisers (lecture 5–7, 10.1)."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
