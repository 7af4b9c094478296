"""Training state, updates, the compiled step, the loop and its checkpoints."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
