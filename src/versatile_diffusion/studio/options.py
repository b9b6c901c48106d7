"""What tasks have in common: how many outputs, and how they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from versatile_diffusion.engine.workers import ModelInfo
from versatile_diffusion.sampling.presets import SAMPLING_PRESETS
from versatile_diffusion.studio.controls import Values
from versatile_diffusion.studio.tasks import Task

RANDOM = -1
"""Seed that stands for a new one each time."""
OWN = "model's own"
_PREVIEWS = 6
_GUIDANCE_SCALE = 7.5  # the official one


def defaults(guidance_scale: float, preset: str = "fast") -> dict[str, Any]:
    """What is filled in at first."""
    plain = {"num_outputs": 1, "seed": RANDOM, "guidance_scale": guidance_scale, "eta": 0.0, "negative": ""}
    return {"preset": preset, **sampling(preset), **plain}


def own_guidance_scale(model: ModelInfo, to: str) -> float:
    """How much a model guides its outputs of a modality; the official scale where it makes none."""
    return model.guidance_scales.get(to, _GUIDANCE_SCALE)


def sampling(preset: str) -> dict[str, Any]:
    """What a preset stands for."""
    chosen = SAMPLING_PRESETS[preset]
    return {"steps": chosen["num_inference_steps"], "scheduler": chosen["scheduler"] or OWN}


def asked(task: Task, values: Values) -> dict[str, Any]:
    """What to ask of the engine, as fields of `GenerateIn`.

    Raises:
        ValueError: if something is missing; the message says what to do.
    """
    steps = int(values["steps"])
    fields = {
        "to": task.to,
        "model": values["model"],
        "num_outputs": int(values["num_outputs"]),
        "seed": None if values["seed"] in (None, RANDOM) else int(values["seed"]),
        "num_inference_steps": steps,
        "guidance_scale": values["guidance_scale"],
        "scheduler": None if values["scheduler"] == OWN else values["scheduler"],
        "eta": values["eta"],
        "preview_every": max(1, steps // _PREVIEWS) if task.to == "image" else 0,
        "temperature": values.get("temperature"),
    }
    if (values["negative"] or "").strip():
        fields["negative"] = [{"modality": "text", "data": values["negative"].strip()}]
    return {**fields, **task.ask(values)}


def title(task: Task, values: Mapping[str, Any]) -> str:
    """What is made, in words."""
    said = [values[name].strip() for name in ("prompt", "remove", "add") if (values.get(name) or "").strip()]
    return " · ".join(said) or task.title
