"""Losses, unreduced, and the objectives that reduce them (lecture 3, 10)."""
