"""Codes of data and search among them: principal components, binary codes, Hamming search, ranking (lecture 20)."""

from dlcore.lazy import exports

__getattr__, __dir__, __all__ = exports(__name__, __file__)
