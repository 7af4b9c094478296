"""Schedules and optimisers (lecture 5–7, 10.1)."""
