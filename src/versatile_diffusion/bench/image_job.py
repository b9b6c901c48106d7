"""Opens a model, makes an image and tells what that took, in JSON: `python -m versatile_diffusion.bench.image_job JOB`.

A process of its own, as `loader` is, and for the same reason.
"""

from __future__ import annotations

import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file  # pyright: ignore[reportUnknownVariableType] - typed in part
from torch import Tensor

from versatile_diffusion.bench.process import status, watching
from versatile_diffusion.devices import DTYPES

IMAGE = "image"
"""The name of the image in the file that a job writes."""

_PROMPT = "a red lighthouse by the sea"

OnStep = Callable[[int], None]
"""Called with the number of each step that was taken, from 1 on."""


@dataclass(frozen=True)
class ImageJob:
    """What to do.

    Attributes:
        who: One of `PIPELINES`.
        folder: A model in diffusers' layout.
        dtype: A name in `DTYPES`.
        pixels: Height and width of the image.
        steps: Steps of DDIM; 0 only opens the model.
        seed: Seed of the noise to start from.
        output: A .safetensors file for the image, or None to write none.
    """

    who: str
    folder: str
    dtype: str
    pixels: int
    steps: int
    seed: int = 0
    output: str | None = None

    @property
    def latents(self) -> Float[Tensor, "1 c h w"]:
        """The noise to start from."""
        config = json.loads((Path(self.folder) / "vae/config.json").read_text())
        side = self.pixels // 2 ** (len(config["block_out_channels"]) - 1)
        return torch.randn(1, config["latent_channels"], side, side, generator=torch.Generator().manual_seed(self.seed))


class ImagePipeline(ABC):
    """A pipeline that makes images of texts."""

    @abstractmethod
    def open(self, job: ImageJob) -> None:
        """Reads all that the pipeline reads before it can make an image."""

    @abstractmethod
    def make(self, job: ImageJob, on_step: OnStep) -> Float[np.ndarray, "1 h w 3"]:
        """Makes an image."""


class Ours(ImagePipeline):
    """Our pipeline, as the commands use it."""

    def __init__(self) -> None:
        from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline  # diffusers' goes without

        self.pipeline = VersatileDiffusionPipeline

    def open(self, job: ImageJob) -> None:
        """Reads what the flow needs, and packs it."""
        self.pipe = self.pipeline.from_pretrained(job.folder, torch_dtype=DTYPES[job.dtype], flows=["text-to-image"])
        self.pipe.pack()
        self.pipe.set_progress_bar_config(disable=True)  # pyright: ignore[reportUnknownMemberType] - untyped in diffusers

    def make(self, job: ImageJob, on_step: OnStep) -> Float[np.ndarray, "1 h w 3"]:
        """Makes an image."""

        def count(pipe: object, step: int, timestep: Tensor, given: dict[str, Tensor]) -> dict[str, Tensor]:
            on_step(step + 1)
            return {}

        made = self.pipe.text_to_image(
            _PROMPT,
            num_inference_steps=job.steps,
            latents=job.latents,
            output_type="np",
            callback_on_step_end=count,
        )
        return np.asarray(made.images)


class Diffusers(ImagePipeline):
    """diffusers' pipeline of the one flow."""

    name = "VersatileDiffusionTextToImagePipeline"

    def __init__(self) -> None:
        import diffusers
        from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel

        library: Any = diffusers  # as a namespace that takes names
        library.UNetFlatConditionModel = UNetFlatConditionModel  # it saves this name, but no more finds it
        self.library = library

    def open(self, job: ImageJob) -> None:
        """Reads all that diffusers does."""
        self.pipe = getattr(self.library, self.name).from_pretrained(job.folder, torch_dtype=DTYPES[job.dtype])
        self.pipe.set_progress_bar_config(disable=True)

    def make(self, job: ImageJob, on_step: OnStep) -> Float[np.ndarray, "1 h w 3"]:
        """Makes an image."""

        def count(step: int, timestep: object, latents: object) -> None:
            on_step(step + 1)

        how = {"height": job.pixels, "width": job.pixels, "num_inference_steps": job.steps, "output_type": "np"}
        how |= {"latents": job.latents.to(DTYPES[job.dtype])}
        return np.asarray(self.call(_PROMPT, callback=count, **how).images)

    @property
    def call(self) -> Callable[..., Any]:  # what diffusers returns is untyped
        """What makes images."""
        return self.pipe


class AllOfDiffusers(Diffusers):
    """diffusers' pipeline of all flows that it has. It makes images through that of the one flow."""

    name = "VersatileDiffusionPipeline"

    @property
    def call(self) -> Callable[..., Any]:  # what diffusers returns is untyped
        """What makes images of texts."""
        return self.pipe.text_to_image


PIPELINES: dict[str, type[ImagePipeline]] = {
    "ours": Ours,
    "diffusers": Diffusers,
    "diffusers, all flows": AllOfDiffusers,
}


def main(job: ImageJob) -> None:
    """Prints {"step": …} after each step, then seconds, and bytes that the whole process held at most."""
    pipeline = PIPELINES[job.who]()
    with watching("RssAnon", interval=0.05) as anonymous:
        begun = time.perf_counter()
        pipeline.open(job)
        opened = made = time.perf_counter()
        if job.steps:
            image = pipeline.make(job, lambda step: print(json.dumps({"step": step}), flush=True))
            made = time.perf_counter()
            if job.output:
                save_file({IMAGE: torch.as_tensor(image).float().contiguous()}, job.output)
    found = {"opening": opened - begun, "making": made - opened}
    print(json.dumps(found | {"peak": status("VmHWM"), "peak_anonymous": max(anonymous)}))


if __name__ == "__main__":
    main(ImageJob(**json.loads(sys.argv[1])))
