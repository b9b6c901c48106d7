"""How a model samples with the LoRA that it was distilled to: in few steps, and without guidance."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from versatile_diffusion.sampling.options import FEW_STEP_SCHEDULERS, PresetName, S, SchedulerName
from versatile_diffusion.sampling.presets import OPTIONS
from versatile_diffusion.validation import Strict


class FewSteps(Strict):
    """What a few-step LoRA was made for, as its folder says.

    Attributes:
        scheduler: that samples with it.
        steps: that it takes where the user says nothing else.
        solver_steps: of the model that it learnt from. No more steps than these can be taken.
    """

    scheduler: SchedulerName
    steps: Annotated[int, Field(ge=1, le=1000)]
    solver_steps: Annotated[int, Field(ge=1, le=1000)]


def resolved(request: S, few: FewSteps | None) -> S:
    """Returns options of sampling with what a preset stands for in their places.

    What was asked for beside the preset stays. The preset fast is left standing where a few-step LoRA is used: that is
    how records tell it. It is not used with guidance, another scheduler, or more steps than it can take. Options that
    are resolved stay as they are.

    Args:
        request: options, alone or as a part of a request.
        few: how the model samples with its few-step LoRA, or None if it carries none.

    Raises:
        ValueError: if what is asked for needs such a LoRA and cannot have it.
    """
    fast = request.preset is PresetName.FAST
    if fast and few is not None and not request.is_guided and request.scheduler in (None, *FEW_STEP_SCHEDULERS):
        steps = few.steps if request.num_inference_steps is None else request.num_inference_steps
        scheduler = request.scheduler or few.scheduler
        if steps <= few.solver_steps:
            return request.replaced(num_inference_steps=steps, guidance_scale=1.0, scheduler=scheduler)
    if fast and request.scheduler in FEW_STEP_SCHEDULERS:
        if few is None:
            why = "this model carries none"
        else:
            why = f"it takes {few.solver_steps} steps at most, no guidance and nothing negative"
        raise ValueError(
            f"The preset fast with the scheduler {request.scheduler} asks for a few-step LoRA, and {why}: leave the "
            "scheduler out, or take the preset quality."
        )
    options = OPTIONS[request.preset or PresetName.QUALITY]
    left = {name: value for name, value in options.items() if getattr(request, name) is None}
    return request if not left and request.preset is None else request.replaced(**left, preset=None)
