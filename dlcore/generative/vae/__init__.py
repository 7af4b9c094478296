"""Variational autoencoders: reparametrisation, evidence lower bound, importance-weighted bounds (lecture 24).

p(z) a `Prior`, q(z|x) a `Posterior`, p(x|z) a `Likelihood` of the decoder's outputs. Bounds are in nats per image.
"""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
