"""What ComfyUI offers to nodes that run in it; without it, they run all the same."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch

from versatile_diffusion.devices import choose_device

if TYPE_CHECKING:
    from versatile_diffusion.sampling.sampler import OnStep, Step


def own_device() -> torch.device:
    """Returns the device that ComfyUI computes on; the best one there is where ComfyUI is not."""
    management = _module("comfy.model_management")
    return choose_device() if management is None else management.get_torch_device()


def watched() -> OnStep:
    """Returns what shows each step in the node's progress bar, and ends the node when its user presses Cancel."""
    utils, management = _module("comfy.utils"), _module("comfy.model_management")
    bar: Any = None

    def after_step(step: Step) -> None:
        nonlocal bar
        if management is not None:
            management.throw_exception_if_processing_interrupted()
        if utils is not None:
            bar = bar or utils.ProgressBar(step.total)
            bar.update_absolute(step.number, step.total)

    return after_step


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None
