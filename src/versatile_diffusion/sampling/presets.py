"""Named ways to sample, as options of `generate`: `pipe.text_to_image(prompt, **FAST)`.

`QUALITY` is the official way. `FAST` takes a few steps without guidance, of a LoRA that the model carries; where it
carries none, fewer steps of a better solver (docs/performance.md). Each option can be overruled:
`**FAST | {"num_inference_steps": 15}`.
"""

from __future__ import annotations

from typing import TypedDict

from versatile_diffusion._moved import former_names
from versatile_diffusion.sampling.options import PresetName


class SamplingPreset(TypedDict, total=False):
    """Some of the options of `Sampling`."""

    preset: str | None
    num_inference_steps: int | None
    guidance_interval: tuple[float, float] | None
    scheduler: str | None


QUALITY: SamplingPreset = {"num_inference_steps": 50, "guidance_interval": None, "scheduler": None}
FAST: SamplingPreset = {"preset": "fast"}
SAMPLING_PRESETS: dict[str, SamplingPreset] = {"quality": QUALITY, "fast": FAST}

SOLVER: SamplingPreset = {"num_inference_steps": 8, "guidance_interval": None, "scheduler": "dpm"}
OPTIONS: dict[PresetName, SamplingPreset] = {PresetName.QUALITY: QUALITY, PresetName.FAST: SOLVER}
"""What presets stand for in models that carry no few-step LoRA."""

__getattr__ = former_names(
    __name__,
    {
        "Sampling": "versatile_diffusion.sampling.presets:SamplingPreset",
        "SchedulerName": "versatile_diffusion.sampling.options:SchedulerName",
    },
)
