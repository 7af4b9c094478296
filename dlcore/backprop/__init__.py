"""Backpropagation written out without automatic differentiation (lecture 9): a forward and a backward per layer.

`x_forward(...) -> (output, cache)` keeps what `x_backward(cache, cotangent) -> gradients` needs. A cotangent is
∂L/∂output, in the output's shape; gradients come in the shapes of what they belong to. `dlcore.backprop.chain`
composes such pairs to networks, `jacobian` multiplies layer Jacobians instead, `differences` counts what it all saves.
"""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
