"""Looking inside trained networks: what they respond to, and what their answers rest on (lecture 17).

Every method is a pure function of (model, params, state, x, ...); no hook is left behind.
"""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
