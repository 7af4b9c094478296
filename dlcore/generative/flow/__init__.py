"""Normalising flows: bijections that compose, and the exact densities that they give (lecture 28)."""
