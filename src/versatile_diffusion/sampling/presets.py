"""Named ways to sample, as options of `generate`: `pipe.text_to_image(prompt, **FAST)`.

`QUALITY` is the official way. `FAST` makes other outputs, of equal scores on the bundled model (docs/performance.md).
Each option can be overruled: `**FAST | {"num_inference_steps": 15}`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypedDict


class SchedulerName(StrEnum):
    """Samplers, as in `schedulers.SCHEDULERS`."""

    DDIM = "ddim"
    DPM = "dpm"
    UNIPC = "unipc"
    EULER = "euler"
    PNDM = "pndm"
    LMS = "lms"


class Sampling(TypedDict):
    """Options of `VersatileDiffusionPipeline.generate`."""

    num_inference_steps: int
    guidance_interval: tuple[float, float] | None
    scheduler: str | None


QUALITY: Sampling = {"num_inference_steps": 50, "guidance_interval": None, "scheduler": None}
FAST: Sampling = {"num_inference_steps": 8, "guidance_interval": None, "scheduler": "dpm"}
SAMPLING_PRESETS: dict[str, Sampling] = {"quality": QUALITY, "fast": FAST}
