"""The diffuser learns to tell noise from latents, in any flows of any modalities."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.training_utils import compute_snr  # pyright: ignore[reportUnknownVariableType] - diffusers leaves parameters untyped
from jaxtyping import Float, Int64
from torch import Generator, Tensor, nn
from torch.nn.functional import mse_loss

from versatile_diffusion.diffuser.model import ContextTokens, Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.sampling.guidance import Guidance, guided_denoiser
from versatile_diffusion.sampling.sampler import Denoiser, Schedule, sample
from versatile_diffusion.sampling.schedulers import check_scheduler
from versatile_diffusion.training.loop.batch_share import WHOLE, BatchShare
from versatile_diffusion.training.loop.preview import PREVIEWED, side_by_side
from versatile_diffusion.training.loop.sharding import computing_part
from versatile_diffusion.training.loop.task import Batch, Pass, Preview, Task

# The paper's gradient scales in four-flow training (section 3.4), by the beginning of a parameter's name.
GRADIENT_SCALES = {
    "data_layers.image": 0.2,
    "data_layers.text": 1.0,
    "context_layers": 1.0,
    "global_layers": 0.1,
}

CONTEXT_DROPOUT = 0.1
"""Share of samples without context, where nothing else is said."""
PREVIEW_STEPS, PREVIEW_GUIDANCE = 10, 3.0
LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of noise, at which validation losses are measured: shares of the schedule."""
VALIDATED = 32
"""Samples that these are measured on."""


@runtime_checkable
class LatentData(Protocol):
    """Latents and context tokens, computed before training or on the way."""

    def draw(
        self, flow: Flow, count: int, generator: Generator, share: BatchShare = WHOLE
    ) -> tuple[Float[Tensor, "own *latent"], Float[Tensor, "own n d"]]:
        """Returns latents of the flow's output with tokens of the flow's context, of samples that are drawn.

        Args:
            flow: that is learnt.
            count: samples of all processes together.
            generator: the same in all processes.
            share: of this process; only its own samples are loaded.
        """
        ...

    def first(self, flow: Flow, count: int) -> tuple[Float[Tensor, "b *latent"], Float[Tensor, "b n d"]]:
        """Returns the same of the first samples, or of all if there are fewer."""
        ...

    def unconditional(self, flow: Flow) -> Float[Tensor, "1 n d"]:
        """Returns the tokens that stand for no context."""
        ...

    def teaches(self, flow: Flow) -> bool:
        """Tells whether any sample has what the flow needs."""
        ...


@runtime_checkable
class StreamedData(LatentData, Protocol):
    """Latents and context tokens of samples that are read one after the other, and how far they were read."""

    def memory(self) -> object:
        """See `Task.memory`."""
        ...

    def remember(self, memories: Sequence[object]) -> None:
        """See `Task.remember`."""
        ...


class DiffuserTask(Task[Diffuser]):
    """The error in what the diffuser predicts, summed over all active flows (paper, section 3.4).

    It learns to predict what sampling reads: the noise, the velocity or the clean latent, as the `prediction_type` of
    its scheduler says.

    Args:
        diffuser: to train.
        flows: the active flows.
        data: latents and context tokens.
        scheduler: its noise schedule and its `prediction_type` are those that are learnt.
        context_dropout: share of samples without context, for guidance; by context modality where it is not one for
            all, and then CONTEXT_DROPOUT of those that are left out.
        min_snr: caps the weight of the easy, little noised steps (min-SNR-γ, arXiv 2303.09556); None for no weights. At
            pure noise, where a schedule with zero terminal SNR ends, this weight is 0.
        gradient_scales: factors by the beginning of a parameter's name.
        multiples: by flow, how many samples it takes for each sample of a batch; 1 if left out.
        modalities: for previews, to decode with; there are none without them.
        validation: what losses are measured on that is not learnt from.
        noise_offset: how much of the noise is the same all over a channel, where channels have two or more dimensions:
            with some a diffuser learns to make very dark and very bright images.
        timestep_shift: above 1, noisy latents are learnt more often than others: a share u of the schedule becomes
            s·u / (1 + (s - 1)·u) (arXiv 2403.03206).

    Raises:
        ValueError: if nothing can be sampled with the scheduler; see `check_scheduler`.
    """

    def __init__(
        self,
        diffuser: Diffuser,
        flows: Sequence[Flow],
        data: LatentData,
        scheduler: DDIMScheduler,
        context_dropout: float | Mapping[str, float] = CONTEXT_DROPOUT,
        min_snr: float | None = None,
        gradient_scales: Mapping[str, float] | None = None,
        multiples: Mapping[Flow, int] | None = None,
        modalities: Mapping[str, Modality] | None = None,
        validation: LatentData | None = None,
        noise_offset: float = 0.0,
        timestep_shift: float = 1.0,
    ) -> None:
        check_scheduler(scheduler)
        self.model, self.flows, self.data, self.scheduler = diffuser, tuple(flows), data, scheduler
        self.context_dropout, self.min_snr, self.noise_offset = context_dropout, min_snr, noise_offset
        self.timestep_shift = timestep_shift
        self.gradient_scales, self.multiples = gradient_scales or {}, multiples or {}
        self.modalities, self.validation = modalities or {}, validation

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        return self.draw_share(generator, size, WHOLE)

    def draw_share(self, generator: Generator, size: int, share: BatchShare) -> Batch:
        """See `Task.draw_share`."""
        batch: dict[str, Tensor] = {}
        for flow in self.flows:
            count = size * self.multiples.get(flow, 1)
            latents, tokens = self.data.draw(flow, count, generator, share)
            dropped = share.of(torch.rand(count, 1, 1, generator=generator)) < self.dropout(flow.context)
            batch[f"{flow}/latents"] = latents
            batch[f"{flow}/tokens"] = torch.where(dropped, self.data.unconditional(flow), tokens)
            batch[f"{flow}/noise"] = share.of(self._noise((count, *latents.shape[1:]), generator))
            batch[f"{flow}/timesteps"] = share.of(self.draw_timesteps(count, generator))
        return batch

    def draw_timesteps(self, count: int, generator: Generator) -> Int64[Tensor, "b"]:
        """Returns the timesteps at which so many samples are learnt: of any level, unshifted each as often."""
        steps, shift = len(self.scheduler.betas), self.timestep_shift
        levels = (torch.randint(steps, (count,), generator=generator) + 0.5) / steps
        return (steps * shift * levels / (1 + (shift - 1) * levels)).long()

    def memory(self) -> object:
        """See `Task.memory`: where a stream of samples is."""
        return self.data.memory() if isinstance(self.data, StreamedData) else None

    def remember(self, memories: Sequence[object]) -> None:
        """See `Task.remember`."""
        if isinstance(self.data, StreamedData):
            self.data.remember(memories)

    def dropout(self, context: str) -> float:
        """Returns the share of samples that are learnt without their context, if it is of this modality."""
        if isinstance(self.context_dropout, Mapping):
            return self.context_dropout.get(context, CONTEXT_DROPOUT)
        return self.context_dropout

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`. One pass a flow."""
        for flow in self.flows:
            yield self._pass(flow, *(batch[f"{flow}/{part}"] for part in ("latents", "tokens", "noise", "timesteps")))

    def units(self) -> Iterator[nn.Module]:
        """See `Task.units`: the blocks, and of context blocks apart what computes the context's keys and values.

        These are computed before the blocks begin.
        """
        for layers in self.model.data_layers.values():
            yield from map(computing_part, layers.children())
        for layers in self.model.context_layers.values():
            for block in layers.children():
                yield block.get_submodule("attend_cross.key")
                yield block.get_submodule("attend_cross.value")
                yield block

    def gradient_scale(self, name: str) -> float:
        """See `Task.gradient_scale`."""
        return next((scale for start, scale in self.gradient_scales.items() if name.startswith(start)), 1.0)

    def validate(self, model: Diffuser) -> Mapping[str, float]:
        """See `Task.validate`: the error of each flow at each of `LEVELS` of noise."""
        found: dict[str, float] = {}
        for flow in self.flows:
            if self.validation is not None and self.validation.teaches(flow):
                latents, tokens = self.validation.first(flow, VALIDATED)
                noise = torch.randn(latents.shape, generator=Generator().manual_seed(0))
                for level in LEVELS:
                    timesteps = torch.full((len(latents),), self.timestep_at(level))
                    batch = (part.to(model.device) for part in (latents, tokens, noise, timesteps))
                    found[f"{flow}/{level:g}"] = float(self._errors(flow, *batch).mean())
        return found

    def timestep_at(self, level: float) -> int:
        """Returns the timestep that is learnt at a level of noise, from 0 to 1."""
        return int(level * len(self.scheduler.betas))

    def preview(self, model: Diffuser) -> Preview:
        """See `Task.preview`: of each flow the first samples, and beside them what is made from their contexts."""
        return {str(flow): self._preview(model, flow) for flow in self.flows if flow.output in self.modalities}

    def preview_guidance(self, flow: Flow) -> float:
        """Returns the guidance scale of previews."""
        return PREVIEW_GUIDANCE

    def preview_schedule(self, device: torch.device) -> Schedule:
        """Returns the steps of previews."""
        return Schedule.plan(copy.deepcopy(self.scheduler), PREVIEW_STEPS, device=device)

    def guided(self, diffuser: Diffuser, flow: Flow, tokens: Float[Tensor, "b n d"], scale: float) -> Denoiser:
        """Returns a denoiser of a flow that is guided from no context towards these tokens."""
        nothing = self.data.unconditional(flow).to(tokens).expand_as(tokens)
        given, none = ([ContextTokens(flow.context, context)] for context in (tokens, nothing))
        with self.autocast():
            return guided_denoiser(diffuser, flow.output, given, none, Guidance(scale))

    def _noise(self, shape: Sequence[int], generator: Generator) -> Tensor:
        noise = torch.randn(shape, generator=generator)
        if self.noise_offset and len(shape) > 3:
            noise += self.noise_offset * torch.randn(*shape[:2], *(1 for _ in shape[2:]), generator=generator)
        return noise

    def _preview(self, diffuser: Diffuser, flow: Flow) -> Tensor | str:
        latents, tokens = (part.to(diffuser.device) for part in self.data.first(flow, PREVIEWED))
        guided = self.guided(diffuser, flow, tokens, self.preview_guidance(flow))

        def denoise(noisy: Tensor, timestep: Tensor) -> Tensor:
            with self.autocast():
                return guided(noisy, timestep)

        noise = torch.randn(latents.shape, generator=Generator().manual_seed(0)).to(latents)
        made = sample(denoise, noise, self.preview_schedule(diffuser.device))
        modality = self.modalities[flow.output]
        return side_by_side(*(_decoded(modality.decode, each) for each in (latents, made)))

    def _pass(self, flow: Flow, latents: Tensor, tokens: Tensor, noise: Tensor, timesteps: Tensor) -> Pass:
        def predict() -> dict[str, Tensor]:
            errors = self._errors(flow, latents, tokens, noise, timesteps)
            return {str(flow): (errors * self._weights(timesteps)).mean()}

        return predict

    def _errors(
        self, flow: Flow, latents: Tensor, tokens: Tensor, noise: Tensor, timesteps: Tensor
    ) -> Float[Tensor, " b"]:
        """How wrong each prediction is."""
        noisy = self.scheduler.add_noise(latents, noise, timesteps)  # pyright: ignore[reportArgumentType]
        with self.autocast():
            predicted = self.model(noisy, timesteps, flow.output, [ContextTokens(flow.context, tokens)])
        target = self._target(latents, noise, timesteps)
        return mse_loss(predicted.float(), target, reduction="none").flatten(1).mean(1)

    def _target(
        self, latents: Float[Tensor, "b *latent"], noise: Float[Tensor, "b *latent"], timesteps: Int64[Tensor, "b"]
    ) -> Float[Tensor, "b *latent"]:
        """What the diffuser is to predict; see PREDICTION_TYPES."""
        match self.scheduler.config["prediction_type"]:
            case "v_prediction":
                return self.scheduler.get_velocity(latents, noise, timesteps)  # pyright: ignore[reportArgumentType] - diffusers asks for an IntTensor
            case "sample":
                return latents
            case _:
                return noise

    def _weights(self, timesteps: Int64[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Those of min-SNR-γ: of an error in the clean latent the smaller of SNR and γ, and as much of the others."""
        if self.min_snr is None:
            return torch.ones(len(timesteps), device=timesteps.device)
        snr = torch.as_tensor(compute_snr(self.scheduler, timesteps))
        capped = snr.clamp(max=self.min_snr)
        match self.scheduler.config["prediction_type"]:
            case "v_prediction":
                return capped / (snr + 1)
            case "sample":
                return capped
            case _:
                return capped / snr


def _decoded(decode: Callable[..., Sequence[object]], latents: Tensor) -> list[object]:
    """What latents stand for, decoded one by one: a large image takes more memory to decode than to denoise."""
    return [decode(each[None], [Generator().manual_seed(i)])[0] for i, each in enumerate(latents)]
