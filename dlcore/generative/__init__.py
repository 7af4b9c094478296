"""Deep generative models: objectives, bounds and samplers over networks handed in as arguments (lecture 22–29)."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
