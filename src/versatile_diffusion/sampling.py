"""Sampling: from noise to a latent, as functions of a denoiser. Every draw comes from an explicit generator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers.utils.torch_utils import randn_tensor
from jaxtyping import Float
from torch import Generator, Tensor

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(latents (b *latent), timestep ()) -> the noise in them (b *latent)."""

StepCallback = Callable[[int, Tensor, Tensor], Tensor | None]
"""(step, timestep, latents) -> the latents to go on with, or None to stop here."""


def draw_noise(
    shape: Sequence[int], generators: Sequence[Generator] | None, device: torch.device | None = None
) -> Float[Tensor, "b *latent"]:
    """Unit Gaussian noise; each row from its own generator."""
    return randn_tensor(tuple(shape), generator=list(generators) if generators else None, device=device)


def plan_timesteps(scheduler: Any, num_inference_steps: int, strength: float, device: torch.device) -> Tensor:
    """Timesteps to walk, from the noisiest: the last `strength` of all.

    Raises:
        ValueError: if the numbers are out of range, or no step is left.
    """
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps must be 1 or more, got {num_inference_steps}.")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie between 0 (keep the start) and 1 (forget it), got {strength}.")
    scheduler.set_timesteps(num_inference_steps, device=device)
    steps = min(int(num_inference_steps * strength), num_inference_steps)
    if steps == 0:
        raise ValueError(
            f"No step is left: {num_inference_steps} steps at strength {strength}. Take more steps or more strength."
        )
    first = (num_inference_steps - steps) * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return scheduler.timesteps[first:]


def sample(
    denoise: Denoiser,
    noise: Float[Tensor, "b *latent"],
    scheduler: Any,
    timesteps: Tensor,
    *,
    start: Float[Tensor, "b *latent"] | None = None,
    generators: Sequence[Generator] | None = None,
    eta: float = 0.0,
    on_step: StepCallback | None = None,
) -> Float[Tensor, "b *latent"]:
    """Walks the timesteps of any diffusers scheduler.

    Args:
        denoise: predicts the noise.
        noise: unit Gaussian noise.
        scheduler: as `plan_timesteps` left it.
        timesteps: from `plan_timesteps`.
        start: clean latents to start from, with noise added; without them the start is noise alone.
        generators: one for each latent, for schedulers that draw.
        eta: how much of the variance DDIM draws anew (0: none).
        on_step: called after each step.
    """
    if start is None:
        latents = noise * scheduler.init_noise_sigma
    else:
        latents = scheduler.add_noise(start, noise, timesteps[:1].expand(len(start)))
    options = _step_options(scheduler, generators, eta)
    for step, timestep in enumerate(timesteps):
        predicted = denoise(scheduler.scale_model_input(latents, timestep), timestep)
        latents = scheduler.step(predicted, timestep, latents, **options).prev_sample
        if on_step is not None:
            changed = on_step(step, timestep, latents)
            if changed is None:
                break
            latents = changed
    return latents


def _step_options(scheduler: Any, generators: Sequence[Generator] | None, eta: float) -> dict[str, Any]:
    """Those of eta and generator that this scheduler's step takes."""
    accepted = inspect.signature(scheduler.step).parameters
    offered = {"eta": eta, "generator": list(generators) if generators else None}
    return {name: value for name, value in offered.items() if name in accepted}
