"""How good a model is: metrics, calibration, the bits-per-dimension ruler, sample quality, cross-validation."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
