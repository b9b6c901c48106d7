"""Sampling and guidance as functions of a denoiser, schedulers, and named ways to sample."""

from versatile_diffusion._moved import former_names

_SAME = ("Denoiser", "Rows", "Schedule", "count_steps", "draw_noise", "sample")
_SAMPLER = "versatile_diffusion.sampling.sampler"

__getattr__ = former_names(
    __name__, {name: f"{_SAMPLER}:{name}" for name in _SAME} | {"StepCallback": f"{_SAMPLER}:OnStep"}
)
