"""Denoising diffusion: schedules, forward process, objective, variational bound, samplers (lecture 29)."""
