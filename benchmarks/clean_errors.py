"""How wrong a diffuser is in clean latents, for benchmarks that compare ways of training one."""

from __future__ import annotations

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.diffuser.model import ContextTokens
from versatile_diffusion.flows import Flow


@torch.no_grad()
def clean_error(
    diffuser: Diffuser,
    schedule: DDIMScheduler,
    flow: Flow,
    latents: Float[Tensor, "n *latent"],
    tokens: Float[Tensor, "n m d"],
    level: float,
) -> float:
    """Returns the mean squared error where so large a share of the schedule is noise, which is always the same."""
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    timestep = int(level * len(schedule.betas))
    timesteps = torch.full((len(latents),), timestep)
    noisy = schedule.add_noise(latents, noise, timesteps)  # pyright: ignore[reportArgumentType] - diffusers asks for an IntTensor
    predicted = diffuser(noisy, timesteps, flow.output, [ContextTokens(flow.context, tokens)])
    clean: Tensor = schedule.step(predicted, timestep, noisy, return_dict=False)[1]
    return float((clean - latents).square().mean())
