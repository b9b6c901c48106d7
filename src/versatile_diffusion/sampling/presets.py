"""Named ways to sample, as options of `generate`: `pipe.text_to_image(prompt, **FAST)`.

`QUALITY` is the official way. `FAST` makes other outputs, of equal scores on the bundled model (docs/performance.md).
Each option can be overruled: `**FAST | {"num_inference_steps": 15}`.
"""

from __future__ import annotations

from typing import TypedDict

from versatile_diffusion._moved import former_names


class SamplingPreset(TypedDict):
    """Some of the options of `Sampling`."""

    num_inference_steps: int
    guidance_interval: tuple[float, float] | None
    scheduler: str | None


QUALITY: SamplingPreset = {"num_inference_steps": 50, "guidance_interval": None, "scheduler": None}
FAST: SamplingPreset = {"num_inference_steps": 8, "guidance_interval": None, "scheduler": "dpm"}
SAMPLING_PRESETS: dict[str, SamplingPreset] = {"quality": QUALITY, "fast": FAST}

__getattr__ = former_names(
    __name__,
    {
        "Sampling": "versatile_diffusion.sampling.presets:SamplingPreset",
        "SchedulerName": "versatile_diffusion.sampling.options:SchedulerName",
    },
)
