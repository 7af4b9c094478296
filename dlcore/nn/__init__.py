"""Layers and combinators as pure functions (lecture 8, 10, 12–15)."""
