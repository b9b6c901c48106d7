"""Sampling: from noise to a latent, as functions of a denoiser. Every draw comes from an explicit generator."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.utils.torch_utils import (
    randn_tensor,  # pyright: ignore[reportUnknownVariableType] - typed in part
)
from jaxtyping import Float
from torch import Generator, Tensor

from versatile_diffusion.sampling.schedulers import check_scheduler

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(latents (b *latent), timestep ()) -> the noise in them (b *latent)."""

_LMS_ORDER = 4


@dataclass(frozen=True)
class Step:
    """A step that was taken.

    Attributes:
        number: from 1.
        total: how many there are in all.
        timestep: where it started.
        latents: what it made (b *latent).
    """

    number: int
    total: int
    timestep: Tensor
    latents: Float[Tensor, "b *latent"]


@dataclass(frozen=True)
class StepChange:
    """What is to be otherwise after a step.

    Attributes:
        latents: to go on with; None leaves them as they are.
        rows: numbers of the latents that go on, of those that still do; None is all of these. The others keep their
            place, are denoised no further, and come out unfinished.
        stop: whether this was the last step.
    """

    latents: Float[Tensor, "b *latent"] | None = None
    rows: Collection[int] | None = None
    stop: bool = False


OnStep = Callable[[Step], StepChange | None]
"""Called after each step. None changes nothing."""


@dataclass(frozen=True)
class Remainder:
    """What went on of a batch.

    Attributes:
        step: after which the others were let go, from 1.
        rows: numbers of those that went on.
    """

    step: int
    rows: tuple[int, ...]


class Rows:
    """A denoiser of a batch, from which rows may be let go.

    These keep their place in the latents, since schedulers remember something of every row, but cost nothing.

    Args:
        count: rows of the batch.
        denoiser: a denoiser of the rows of these numbers alone.

    Attributes:
        going: numbers of the rows that go on.
        remainders: what went on each time that rows were let go.
    """

    def __init__(self, count: int, denoiser: Callable[[Sequence[int]], Denoiser]) -> None:
        self._denoiser = denoiser
        self.going = list(range(count))
        self.remainders: list[Remainder] = []
        self._denoise = denoiser(self.going)

    def keep(self, rows: Collection[int], step: int) -> None:
        """Lets go of all but these rows after a step. None comes back."""
        going = [row for row in self.going if row in rows]
        if going == self.going:
            return
        self.going = going
        self.remainders.append(Remainder(step, tuple(going)))
        if going:
            self._denoise = self._denoiser(going)

    def __call__(self, latents: Float[Tensor, "b *latent"], timestep: Tensor) -> Float[Tensor, "b *latent"]:
        """The noise in the rows that go on; zeros for the others."""
        if len(self.going) == len(latents):
            return self._denoise(latents, timestep)
        predicted = torch.zeros_like(latents)
        predicted[self.going] = self._denoise(latents[self.going], timestep)
        return predicted


@dataclass(frozen=True)
class Schedule:
    """A diffusers scheduler that is ready to walk these timesteps, the noisiest first. It belongs to one walk alone."""

    scheduler: Any
    timesteps: Tensor

    @classmethod
    def plan(
        cls, scheduler: Any, num_inference_steps: int, strength: float = 1.0, device: torch.device | str = "cpu"
    ) -> Schedule:
        """Plans the last `strength` of the scheduler's steps. Warns if that is less than one, and takes one.

        The scheduler that is given stays as it is, so that several threads can walk at once.

        PNDM never starts late with Runge-Kutta steps: it can take these from pure noise only.

        Raises:
            ValueError: if the numbers are out of range, or the scheduler is for other models.
        """
        check_scheduler(scheduler)
        first = num_inference_steps - count_steps(num_inference_steps, strength)
        if strength > 0 and round(strength * num_inference_steps, 6) < 1:
            warnings.warn(
                f"A strength of {strength:g} is less than one of {num_inference_steps} steps: one is taken. Give a "
                f"strength of {1 / num_inference_steps:.2g} or more, or more steps.",
                UserWarning,
                stacklevel=3,
            )
        late_pndm = isinstance(scheduler, PNDMScheduler) and first > 0
        if late_pndm and not scheduler.config["skip_prk_steps"]:
            scheduler = PNDMScheduler.from_config(scheduler.config, skip_prk_steps=True)  # pyright: ignore[reportUnknownMemberType] - untyped
        else:
            scheduler = copy.deepcopy(scheduler)
        scheduler.set_timesteps(num_inference_steps, device=device)
        timesteps: Any = scheduler.timesteps
        if late_pndm:
            once = timesteps.unique_consecutive()[first:]
            return cls(scheduler, torch.cat([once[:2], once[1:]]))  # PNDM visits its second timestep twice
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(first * scheduler.order)
        return cls(scheduler, timesteps[first * scheduler.order :])


def count_steps(num_inference_steps: int, strength: float) -> int:
    """Returns how many steps are taken at a strength: none at 0, all at 1, rounded down but at least one in between.

    Raises:
        ValueError: if the numbers are out of range.
    """
    if num_inference_steps < 1:
        raise ValueError(f"num_inference_steps must be 1 or more, got {num_inference_steps}.")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie between 0 (keep the start) and 1 (forget it), got {strength}.")
    if strength == 0:
        return 0
    return max(1, int(round(num_inference_steps * strength, 6)))  # 50 * 0.58 is 28.999…, and means 29


def draw_noise(
    shape: Sequence[int], generators: Sequence[Generator] | None, device: torch.device | None = None
) -> Float[Tensor, "b *latent"]:
    """Returns unit Gaussian noise; each row from its own generator."""
    return randn_tensor(tuple(shape), generator=list(generators) if generators else None, device=device)


def sample(
    denoise: Denoiser | Rows,
    noise: Float[Tensor, "b *latent"],
    schedule: Schedule,
    *,
    start: Float[Tensor, "b *latent"] | None = None,
    generators: Sequence[Generator] | None = None,
    eta: float = 0.0,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b *latent"]:
    """Walks a schedule.

    Args:
        denoise: predicts the noise.
        noise: unit Gaussian noise.
        schedule: of any diffusers scheduler, freshly planned.
        start: clean latents to start from, with noise added; without them the start is noise alone.
        generators: one for each latent, for schedulers that draw.
        eta: how much of the variance DDIM draws anew (0: none, 1: all). Warns if the scheduler has no such choice.
        on_step: called after each step; what it answers is done.

    Raises:
        ValueError: if eta is out of range, or the scheduler cannot start from anything but noise.
    """
    scheduler = schedule.scheduler
    latents = _first(noise, schedule, start)
    options = _step_options(scheduler, generators, eta)
    for step, timestep in enumerate(schedule.timesteps):
        if "order" in options:
            options["order"] = min(step + 1, _LMS_ORDER)
        predicted = denoise(scheduler.scale_model_input(latents, timestep), timestep)
        latents = scheduler.step(predicted, timestep, latents, **options).prev_sample
        change = on_step(Step(step + 1, len(schedule.timesteps), timestep, latents)) if on_step is not None else None
        if change is None:
            continue
        latents = latents if change.latents is None else change.latents
        if change.rows is not None and isinstance(denoise, Rows):
            denoise.keep(change.rows, step + 1)
        if change.stop or (isinstance(denoise, Rows) and not denoise.going):
            break
    return latents


def _first(
    noise: Float[Tensor, "b *latent"], schedule: Schedule, start: Float[Tensor, "b *latent"] | None
) -> Float[Tensor, "b *latent"]:
    if start is None:
        return noise * schedule.scheduler.init_noise_sigma
    if not len(schedule.timesteps):
        return start
    try:
        return schedule.scheduler.add_noise(start, noise, schedule.timesteps[:1].expand(len(start)))
    except (AttributeError, NotImplementedError) as error:
        raise ValueError(
            f"{type(schedule.scheduler).__name__} cannot start mid-way, from a start with noise: leave strength at 1 "
            "(fidelity at 0), or take a scheduler that can, such as DDIM, DPM-Solver++ or UniPC."
        ) from error


def _step_options(scheduler: Any, generators: Sequence[Generator] | None, eta: float) -> dict[str, Any]:
    """Options that this scheduler's step takes: eta, generator and, for LMS, the order.

    LMS takes the order from how far it is in the whole schedule, which is wrong where it starts late.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie between 0 (nothing is drawn anew) and 1 (as in DDPM), got {eta}.")
    accepted = inspect.signature(scheduler.step).parameters
    if eta > 0 and "eta" not in accepted:
        warnings.warn(f"{type(scheduler).__name__} has no eta, which is DDIM's: left out.", UserWarning, stacklevel=3)
    offered = {"eta": eta, "generator": list(generators) if generators else None, "order": _LMS_ORDER}
    return {name: value for name, value in offered.items() if name in accepted}
