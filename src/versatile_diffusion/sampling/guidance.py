"""Classifier-free guidance: away from the unconditional prediction, towards the conditional one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_diffusion.diffuser.model import ContextTokens, Diffuser, PreparedContext
from versatile_diffusion.sampling.options import Sampling
from versatile_diffusion.sampling.sampler import Denoiser


@dataclass(frozen=True)
class Guidance:
    """How strongly outputs are guided, and when.

    Attributes:
        scale: 1 is no guidance; the official default is 7.5.
        interval: guide only where the timestep, as a share of the whole schedule, lies between these two (arXiv
            2404.07724); None is everywhere.
        num_train_timesteps: length of the whole schedule.
        rescale: how far a guided prediction is brought back to the standard deviation of the conditional one (arXiv
            2305.08891, section 3.4); 0 leaves it as it is.

    Raises:
        ValueError: if the scale is not finite, or the interval not two numbers between 0 and 1, the smaller first.
    """

    scale: float = 7.5
    interval: tuple[float, float] | None = None
    num_train_timesteps: int = 1000
    rescale: float = 0.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"guidance_scale must be a finite number, got {self.scale}.")
        if self.interval is not None and not 0 <= self.interval[0] < self.interval[1] <= 1:
            raise ValueError(f"guidance_interval must be (low, high) with 0 <= low < high <= 1, got {self.interval}.")

    @classmethod
    def of(cls, sampling: Sampling, scale: float, num_train_timesteps: int) -> Guidance:
        """Returns what the options of sampling say, at the scale that is meant by them."""
        return cls(scale, sampling.guidance_interval, num_train_timesteps, sampling.guidance_rescale)

    def scale_at(self, timestep: Tensor) -> float:
        """Returns the scale at a timestep."""
        if self.interval is None:
            return self.scale
        low, high = self.interval
        return self.scale if low <= float(timestep) / self.num_train_timesteps <= high else 1.0


def guided_denoiser(
    diffuser: Diffuser,
    output: str,
    conditional: Sequence[ContextTokens],
    unconditional: Sequence[ContextTokens],
    guidance: Guidance,
) -> Denoiser:
    """Makes a denoiser that runs both predictions as one batch, or the conditional one alone where the scale is 1.

    Keys and values of the contexts are computed here, with the weights of now, and serve all steps.

    Args:
        diffuser: predicts the noise.
        output: modality of the latents.
        conditional: tokens (b n d) of each context.
        unconditional: tokens (b m d) of what to move away from; may be empty if the scale is 1. Unless they are of
            the same modalities, sizes and weights, the predictions run one after the other.
        guidance: how strongly, and when.
    """
    in_one_batch = [_kind(c) for c in conditional] == [_kind(c) for c in unconditional]
    guides = guidance.scale != 1
    alone = not guides or guidance.interval is not None or not in_one_batch
    with_context = diffuser.prepare(conditional) if alone else []
    without_context = diffuser.prepare(unconditional) if guides and not in_one_batch else []
    both = diffuser.prepare(_stacked(unconditional, conditional)) if guides and in_one_batch else []
    dtype = diffuser.dtype  # which diffusers finds by looking through all modules

    def predict(
        latents: Float[Tensor, "b *latent"], timestep: Tensor, contexts: Sequence[PreparedContext]
    ) -> Float[Tensor, "kb *latent"]:
        timesteps = timestep.to(latents.device).expand(len(latents))
        return diffuser(latents.to(dtype), timesteps, output, contexts).to(latents.dtype)

    def denoise(latents: Float[Tensor, "b *latent"], timestep: Tensor) -> Float[Tensor, "b *latent"]:
        scale = guidance.scale_at(timestep)
        if scale == 1:
            return predict(latents, timestep, with_context)
        if in_one_batch:
            without, given = predict(latents, timestep, both).chunk(2)
        else:
            without, given = (predict(latents, timestep, contexts) for contexts in (without_context, with_context))
        guided = without + scale * (given - without)
        return rescaled(guided, given, guidance.rescale) if guidance.rescale else guided

    return denoise


def rescaled(
    guided: Float[Tensor, "b *latent"], conditional: Float[Tensor, "b *latent"], share: float
) -> Float[Tensor, "b *latent"]:
    """Returns a guided prediction with this share of it at the standard deviation of the conditional one."""
    # With this module come all guiders, which take a second to import.
    from diffusers.guiders.guider_utils import (
        rescale_noise_cfg,  # pyright: ignore[reportUnknownVariableType] - untyped
    )

    return cast(Tensor, rescale_noise_cfg(guided, conditional, share))


def _kind(context: ContextTokens) -> tuple[str, torch.Size, float]:
    return context.modality, context.tokens.shape, context.weight


def _stacked(above: Sequence[ContextTokens], below: Sequence[ContextTokens]) -> list[ContextTokens]:
    return [
        ContextTokens(first.modality, torch.cat([first.tokens, second.tokens]), second.weight)
        for first, second in zip(above, below, strict=True)
    ]
