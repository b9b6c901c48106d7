"""A diffuser learns to jump: where its teacher takes many guided steps, it takes one without guidance.

This is latent consistency distillation (arXiv 2310.04378), as a LoRA (arXiv 2311.05556). The way from noise to a latent
is cut into phases (arXiv 2405.18407, 2403.06807): from anywhere in a phase the student jumps to its end. One phase is
the whole way, as in the first paper.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_tcd import TCDScheduler
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from versatile_diffusion.diffuser.model import ContextTokens
from versatile_diffusion.flows import Flow
from versatile_diffusion.pipeline.lora_layers import without_loras
from versatile_diffusion.sampling.sampler import Schedule
from versatile_diffusion.training.loop.task import Batch, Pass
from versatile_diffusion.training.tasks.diffuser import DiffuserTask


class Jumps:
    """The timesteps between which a student jumps, those of a solver of few steps.

    Args:
        scheduler: whose noise schedule is walked, and whose `prediction_type` the diffuser has.
        solver_steps: of the teacher, from noise to a latent.
        phases: into which these are cut; the timesteps of as many steps of `sampler` begin them.

    Attributes:
        sampler: the scheduler that samples what was learnt.
        phases: steps that it takes.
        timesteps: of the solver, the noisiest first.

    Raises:
        ValueError: if there are more phases than steps, or more steps than the schedule has.
    """

    def __init__(self, scheduler: DDIMScheduler, solver_steps: int, phases: int) -> None:
        if not phases <= solver_steps <= len(scheduler.betas):
            raise ValueError(
                f"There are {phases} phases of {solver_steps} steps of a schedule of {len(scheduler.betas)}: take no "
                "more phases than solver_steps, and no more of these than the schedule has."
            )
        made: Any = TCDScheduler.from_config(scheduler.config, original_inference_steps=solver_steps)  # pyright: ignore[reportUnknownMemberType] - untyped in diffusers
        self.sampler, self.phases = made, phases
        self.timesteps = _timesteps(made, solver_steps)
        edges = torch.cat([_timesteps(made, phases), torch.zeros(1, dtype=torch.long)])
        following = torch.cat([self.timesteps[1:], torch.zeros(1, dtype=torch.long)])
        self._next, self._end = (torch.zeros(len(scheduler.betas), dtype=torch.long) for _ in range(2))
        self._next[self.timesteps] = following
        for timestep in map(int, self.timesteps):
            self._end[timestep] = edges[edges < timestep].max()
        self._alphas = scheduler.alphas_cumprod.double().sqrt().float()
        self._sigmas = (1 - scheduler.alphas_cumprod.double()).sqrt().float()
        self._predicts: str = scheduler.config["prediction_type"]

    def after(self, timesteps: Int64[Tensor, "b"]) -> Int64[Tensor, "b"]:
        """Returns where a step of the solver leads."""
        return self._next.to(timesteps.device)[timesteps]

    def end(self, timesteps: Int64[Tensor, "b"]) -> Int64[Tensor, "b"]:
        """Returns where the phases of timesteps of the solver end."""
        return self._end.to(timesteps.device)[timesteps]

    def jump(
        self,
        noisy: Float[Tensor, "b *latent"],
        predicted: Float[Tensor, "b *latent"],
        start: Int64[Tensor, "b"],
        end: Int64[Tensor, "b"],
    ) -> Float[Tensor, "b *latent"]:
        """Returns where a prediction leads from one timestep to another: DDIM's step, which stays where both are one.

        Args:
            noisy: latents at `start`.
            predicted: what a diffuser says of them; see PREDICTION_TYPES.
            start: timestep of each latent.
            end: where each is to be.
        """
        alpha, sigma = self._at(start, noisy)
        match self._predicts:
            case "v_prediction":
                clean, noise = alpha * noisy - sigma * predicted, alpha * predicted + sigma * noisy
            case "sample":
                clean, noise = predicted, (noisy - alpha * predicted) / sigma
            case _:
                clean, noise = (noisy - sigma * predicted) / alpha, predicted
        alpha, sigma = self._at(end, noisy)
        return alpha * clean + sigma * noise

    def _at(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """The shares of the clean latent and of the noise at timesteps."""
        shape = (-1, *(1 for _ in like.shape[1:]))
        alpha, sigma = (each.to(like.device)[timesteps].reshape(shape) for each in (self._alphas, self._sigmas))
        return alpha, sigma


class ConsistencyTask(DiffuserTask):
    """How far the jumps of a diffuser with a LoRA are from those that its teacher's guided way asks for.

    The teacher is the same diffuser without the LoRA. From a noisy latent it takes one guided step of a solver (DDIM);
    where the student's jump from there leads is what its jump from the noisy latent learns. The student is not
    guided, and sees no sample without its context.

    Args:
        jumps: between which timesteps.
        guidance_scales: of the teacher, by output modality.
        huber: distances below this count by their squares, longer ones as they are (pseudo-Huber loss).
        arguments, options: of `DiffuserTask`; what is of the noise alone (min_snr, noise_offset, timestep_shift)
            is not used.
    """

    def __init__(
        self,
        *arguments: Any,
        jumps: Jumps,
        guidance_scales: Mapping[str, float],
        huber: float = 1e-3,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **{"context_dropout": 0.0, **options})
        self.jumps, self.guidance_scales, self.huber = jumps, guidance_scales, huber

    def draw_timesteps(self, count: int, generator: Generator) -> Int64[Tensor, "b"]:
        """See `DiffuserTask.draw_timesteps`: those of the solver, each as often."""
        steps = self.jumps.timesteps
        return steps[torch.randint(len(steps), (count,), generator=generator)]

    def timestep_at(self, level: float) -> int:
        """See `DiffuserTask.timestep_at`: the nearest of the solver."""
        steps = self.jumps.timesteps
        return int(steps[(steps - level * len(self.scheduler.betas)).abs().argmin()])

    def preview_guidance(self, flow: Flow) -> float:
        """See `DiffuserTask.preview_guidance`: none."""
        return 1.0

    def preview_schedule(self, device: torch.device) -> Schedule:
        """See `DiffuserTask.preview_schedule`: a step for each phase."""
        return Schedule.plan(self.jumps.sampler, self.jumps.phases, device=device)

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`. What the teacher says is computed here, one flow after the other.

        Passes may be computed at once, and must not find the LoRA switched off by each other.
        """
        for flow in self.flows:
            latents, tokens, noise, start = (
                batch[f"{flow}/{part}"] for part in ("latents", "tokens", "noise", "timesteps")
            )
            noisy = self._noised(latents, noise, start)
            yield self._pass_of(flow, noisy, tokens, start, self._nearer(flow, noisy, tokens, start))

    def _pass_of(self, flow: Flow, noisy: Tensor, tokens: Tensor, start: Tensor, nearer: Tensor) -> Pass:
        return lambda: {str(flow): self._distances(flow, noisy, tokens, start, nearer).mean()}

    def _errors(
        self, flow: Flow, latents: Tensor, tokens: Tensor, noise: Tensor, timesteps: Tensor
    ) -> Float[Tensor, "b"]:
        """How far each jump is from where it should lead."""
        noisy = self._noised(latents, noise, timesteps)
        return self._distances(flow, noisy, tokens, timesteps, self._nearer(flow, noisy, tokens, timesteps))

    def _distances(
        self,
        flow: Flow,
        noisy: Float[Tensor, "b *latent"],
        tokens: Float[Tensor, "b n d"],
        start: Int64[Tensor, "b"],
        nearer: Float[Tensor, "b *latent"],
    ) -> Float[Tensor, "b"]:
        """How far jumps from noisy latents are from those that begin a step of the teacher further on."""
        end = self.jumps.end(start)
        with torch.no_grad():
            target = self._jump(flow, nearer, tokens, self.jumps.after(start), end)
        reached = self._jump(flow, noisy, tokens, start, end)
        return ((reached - target).square() + self.huber**2).sqrt().sub(self.huber).flatten(1).mean(1)

    @torch.no_grad()
    def _nearer(
        self, flow: Flow, noisy: Float[Tensor, "b *latent"], tokens: Float[Tensor, "b n d"], start: Int64[Tensor, "b"]
    ) -> Float[Tensor, "b *latent"]:
        """Where one guided step of the teacher leads."""
        with self.autocast(), without_loras(self.model):
            teacher = self.guided(self.model, flow, tokens, self.guidance_scales[flow.output])
            guided = teacher(noisy, start).float()
        return self.jumps.jump(noisy, guided, start, self.jumps.after(start))

    def _noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return self.scheduler.add_noise(latents, noise, timesteps)  # pyright: ignore[reportArgumentType] - diffusers asks for an IntTensor

    def _jump(
        self,
        flow: Flow,
        noisy: Float[Tensor, "b *latent"],
        tokens: Float[Tensor, "b n d"],
        start: Int64[Tensor, "b"],
        end: Int64[Tensor, "b"],
    ) -> Float[Tensor, "b *latent"]:
        with self.autocast():
            predicted = self.model(noisy, start, flow.output, [ContextTokens(flow.context, tokens)])
        return self.jumps.jump(noisy, predicted.float(), start, end)


def _timesteps(scheduler: Any, count: int) -> Int64[Tensor, " steps"]:
    """The timesteps of so many steps of a scheduler, the noisiest first."""
    planned = Schedule.plan(scheduler, count)
    return planned.timesteps.long()
