"""Sampling and guidance as functions of a denoiser, schedulers, and named ways to sample."""
