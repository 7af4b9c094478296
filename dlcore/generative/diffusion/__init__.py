"""Denoising diffusion: schedules, forward process, objective, variational bound, samplers (lecture 29)."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
