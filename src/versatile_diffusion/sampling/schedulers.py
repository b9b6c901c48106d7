"""Schedulers of diffusers by short names."""

from __future__ import annotations

from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "dpm": (DPMSolverMultistepScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),  # Runge-Kutta steps cost four evaluations each
    "lms": (LMSDiscreteScheduler, {}),
}


def named_scheduler(name: str, like: Any) -> Any:
    """A scheduler of that name, for the noise schedule of another one.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in SCHEDULERS:
        raise ValueError(f"A scheduler is one of {', '.join(SCHEDULERS)}, got {name!r}.")
    made, options = SCHEDULERS[name]
    return made.from_config(like.config, **options)


def chosen_scheduler(choice: Any, default: Any) -> Any:
    """A scheduler as it is, the one of a name, or without a choice the default.

    Raises:
        ValueError: if there is none of that name.
    """
    if choice is None:
        return default
    return named_scheduler(choice, default) if isinstance(choice, str) else choice
