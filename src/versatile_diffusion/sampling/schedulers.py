"""Schedulers of diffusers: which of them can be used, and some by short names."""

from __future__ import annotations

import inspect
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_lcm import LCMScheduler
from diffusers.schedulers.scheduling_lms_discrete import LMSDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_tcd import TCDScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

SCHEDULERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "dpm": (DPMSolverMultistepScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),  # Runge-Kutta steps cost four evaluations each
    "lms": (LMSDiscreteScheduler, {}),
    "lcm": (LCMScheduler, {}),
    "tcd": (TCDScheduler, {}),
}


USABLE = (
    "CogVideoXDDIMScheduler",
    "DDIMParallelScheduler",
    "DDIMScheduler",
    "DDPMParallelScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "SASolverScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
"""Those of diffusers that walk this kind of noise schedule; tested one by one. The others are for other models."""

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
"""What a model may predict: the noise, the velocity (arXiv 2202.00512) or the clean latent."""

_WITHOUT_SAMPLE = (
    *("EulerAncestralDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler"),
    "PNDMScheduler",
)
"""Schedulers that diffusers did not write for a prediction of the clean latent."""

_INTERFACE = ("config", "set_timesteps", "scale_model_input", "step", "init_noise_sigma", "order")


def check_scheduler(scheduler: Any) -> None:
    """Finds schedulers that would fail, or make noise, before anything is computed.

    Raises:
        ValueError: if it is for other models; the message says which ones are not.
    """
    if isinstance(scheduler, type):
        raise ValueError(
            f"{scheduler.__name__} is a class: make a scheduler of it, as in "
            f"{scheduler.__name__}.from_config(pipe.scheduler.config)."
        )
    cls: type = type(scheduler)  # pyright: ignore[reportUnknownVariableType] - of anything
    others = [name for name in _INTERFACE if not hasattr(scheduler, name)]
    bases = {base.__name__ for base in cls.__mro__}
    if others or not (bases & set(USABLE) or _is_of_users(cls)):
        what = f"it has no {', '.join(others)}" if others else "it walks the noise of other kinds of models"
        raise ValueError(f"{cls.__name__} cannot be used here: {what}. Take one of {', '.join(USABLE)}.")
    config = scheduler.config
    predicts = config.get("prediction_type", "epsilon")
    if predicts not in PREDICTION_TYPES or config.get("use_flow_sigmas"):
        kind = "flow sigmas" if config.get("use_flow_sigmas") else f"prediction_type {predicts!r}"
        raise ValueError(
            f"{cls.__name__} with {kind} cannot be used here: take one with prediction_type "
            f"{', '.join(PREDICTION_TYPES[:-1])} or {PREDICTION_TYPES[-1]}."
        )
    if predicts == "sample" and bases & set(_WITHOUT_SAMPLE):
        raise ValueError(f"{cls.__name__} knows no prediction_type sample: take DDIM, DPM-Solver++, UniPC or Euler.")
    if predicts == "epsilon" and _ends_in_pure_noise(scheduler):
        raise ValueError(
            f"{cls.__name__} ends at pure noise (rescale_betas_zero_snr), of which no noise can be told apart: a model "
            "that predicts the noise cannot start there. Leave that setting out, or take a model of v_prediction."
        )


def _ends_in_pure_noise(scheduler: Any) -> bool:
    """Whether its last time step has a signal-to-noise ratio of zero."""
    alphas = getattr(scheduler, "alphas_cumprod", None)
    return bool(scheduler.config.get("rescale_betas_zero_snr")) or (alphas is not None and float(alphas[-1]) <= 0)


def _knows_zero_snr(cls: type) -> bool:
    return "rescale_betas_zero_snr" in inspect.signature(cls).parameters


def _is_of_users(cls: type) -> bool:
    return not cls.__module__.startswith("diffusers.")


def named_scheduler(name: str, like: Any, **options: object) -> Any:
    """Returns a scheduler of that name, for the noise schedule of another one.

    Args:
        name: one of SCHEDULERS.
        like: the other one.
        options: of the scheduler of that name.

    Raises:
        ValueError: if there is none of that name, or it does not know such a noise schedule.
    """
    if name not in SCHEDULERS:
        raise ValueError(f"A scheduler is one of {', '.join(SCHEDULERS)}, got {name!r:.80}.")
    made, own = SCHEDULERS[name]
    if like.config.get("rescale_betas_zero_snr") and not _knows_zero_snr(made):
        others = [other for other, (cls, _) in SCHEDULERS.items() if _knows_zero_snr(cls)]
        raise ValueError(
            f"The scheduler {name} knows no noise schedule that ends at pure noise (rescale_betas_zero_snr), as this "
            f"model has: take one of {', '.join(others)}."
        )
    return made.from_config(like.config, **own, **options)


def chosen_scheduler(choice: Any, default: Any) -> Any:
    """Returns a scheduler as it is, the one of a name, or without a choice the default.

    Raises:
        ValueError: if there is none of that name.
    """
    if choice is None:
        return default
    return named_scheduler(choice, default) if isinstance(choice, str) else choice
