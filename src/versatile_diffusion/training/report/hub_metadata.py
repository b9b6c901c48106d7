"""What the hub reads of a model card, besides licences and data: which page shows the model, with which examples."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from versatile_diffusion.flows import Flow

HUB_TASKS = ("text-to-image", "image-to-text", "image-to-image")
"""Flows that the hub has a page and a widget for, by its names."""


def hub_metadata(flows: Iterable[Flow], prompts: Iterable[str] = (), lora: bool = False) -> dict[str, Any]:
    """Returns the metadata of a model, as `ModelCardData` takes it.

    Args:
        flows: of the model.
        prompts: that the widget offers.
        lora: whether it is a LoRA, which diffusers does not open by itself as it opens a model.
    """
    tasks = [f"{flow.context}-to-{flow.output}" for flow in flows]
    return {
        "library_name": "versatile-diffusion" if lora else "diffusers",
        "pipeline_tag": next((task for task in HUB_TASKS if task in tasks), None),
        "widget": [{"text": prompt} for prompt in prompts] or None,
    }
