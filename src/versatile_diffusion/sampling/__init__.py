"""Sampling and guidance as functions of a denoiser, schedulers, and named ways to sample."""

from versatile_diffusion._moved import former_names

_SAMPLER = ("Denoiser", "Rows", "Schedule", "StepCallback", "count_steps", "draw_noise", "sample")

__getattr__ = former_names(__name__, {name: f"versatile_diffusion.sampling.sampler:{name}" for name in _SAMPLER})
