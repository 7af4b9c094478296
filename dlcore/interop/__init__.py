"""Models and weights of other libraries."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
