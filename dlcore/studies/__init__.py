"""Computations behind studies: small problems, and many trainings at once."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
