"""Opens a model, makes a picture and tells what that took, in JSON: `python -m versatile_diffusion.bench.painter JOB`.

A process of its own, as `loader` is, and for the same reason.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from versatile_diffusion.bench.process import status, watching
from versatile_diffusion.devices import DTYPES

PICTURE = "picture"
_PROMPT = "a red lighthouse by the sea"

Report = Callable[[int], None]


@dataclass(frozen=True)
class Job:
    """What to do.

    Attributes:
        who: one of `PAINTERS`.
        folder: a model in diffusers' layout.
        dtype: a name in `DTYPES`.
        pixels: height and width of the picture.
        steps: of DDIM; 0 only opens the model.
        seed: of the noise to start from.
        output: a .safetensors file for the picture, or nothing.
    """

    who: str
    folder: str
    dtype: str
    pixels: int
    steps: int
    seed: int = 0
    output: str | None = None

    @property
    def latents(self) -> Tensor:
        """The noise to start from, (1 c h w)."""
        config = json.loads((Path(self.folder) / "vae/config.json").read_text())
        side = self.pixels // 2 ** (len(config["block_out_channels"]) - 1)
        return torch.randn(1, config["latent_channels"], side, side, generator=torch.Generator().manual_seed(self.seed))


class Ours:
    """What the commands do."""

    pipe: Any

    def __init__(self) -> None:
        from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline

        self.pipeline = VersatileDiffusionPipeline

    def open(self, job: Job) -> None:
        """Reads what the flow needs."""
        self.pipe = self.pipeline.from_pretrained(job.folder, torch_dtype=DTYPES[job.dtype], flows=["text-to-image"])
        self.pipe.pack()

    def paint(self, job: Job, report: Report) -> Any:
        """A picture (1 h w 3)."""

        def on_step(pipe: object, step: int, timestep: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor]:
            report(step + 1)
            return {}

        return self.pipe.text_to_image(
            _PROMPT,
            num_inference_steps=job.steps,
            latents=job.latents,
            output_type="np",
            callback_on_step_end=on_step,
        ).images


class Diffusers:
    """diffusers' pipeline of the one flow."""

    name = "VersatileDiffusionTextToImagePipeline"
    pipe: Any

    def __init__(self) -> None:
        import diffusers
        from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel

        library: Any = diffusers
        library.UNetFlatConditionModel = UNetFlatConditionModel  # it saves this name, but no more finds it
        self.pipeline = getattr(library, self.name)

    def open(self, job: Job) -> None:
        """Reads all that diffusers does."""
        self.pipe = self.pipeline.from_pretrained(job.folder, torch_dtype=DTYPES[job.dtype])

    def paint(self, job: Job, report: Report) -> Any:
        """A picture (1 h w 3)."""
        how = {"height": job.pixels, "width": job.pixels, "num_inference_steps": job.steps, "output_type": "np"}
        how |= {"latents": job.latents.to(DTYPES[job.dtype])}
        return self._call(_PROMPT, callback=lambda step, *_: report(step + 1), **how).images

    @property
    def _call(self) -> Any:
        return self.pipe


class AllOfDiffusers(Diffusers):
    """diffusers' pipeline of all flows that it has. It makes pictures through that of the one flow."""

    name = "VersatileDiffusionPipeline"

    @property
    def _call(self) -> Any:
        return self.pipe.text_to_image


PAINTERS: dict[str, type[Ours] | type[Diffusers]] = {
    "ours": Ours,
    "diffusers": Diffusers,
    "diffusers, all flows": AllOfDiffusers,
}


def main(job: Job) -> None:
    """Prints {"step": …} after each step, then seconds, and bytes that the whole process held at most."""
    painter = PAINTERS[job.who]()
    with watching("RssAnon", interval=0.05) as anonymous:
        begun = time.perf_counter()
        painter.open(job)
        opened = time.perf_counter()
        if job.steps:
            painter.pipe.set_progress_bar_config(disable=True)
            picture = painter.paint(job, lambda step: print(json.dumps({"step": step}), flush=True))
            painted = time.perf_counter()
            if job.output:
                save_file({PICTURE: torch.as_tensor(picture).float().contiguous()}, job.output)
        else:
            painted = opened
    found = {"opening": opened - begun, "painting": painted - opened}
    print(json.dumps(found | {"peak": status("VmHWM"), "peak_anonymous": max(anonymous)}))


if __name__ == "__main__":
    main(Job(**json.loads(sys.argv[1])))
