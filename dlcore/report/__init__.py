"""Figures and run reports, on the host."""
