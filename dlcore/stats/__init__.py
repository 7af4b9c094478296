"""Probability and statistics as pure functions (lecture 2–3)."""
