"""Computations behind studies: small problems, and many trainings at once."""
