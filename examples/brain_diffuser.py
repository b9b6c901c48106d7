"""Reconstructs pictures with Brain-Diffuser's settings (arXiv 2303.05334).

The last 37 of 50 DDIM steps, from a first guess of the picture; 0.6 image and 0.4 text, guidance 7.5; no condition is a
mid-grey picture and the empty text.

python examples/brain_diffuser.py embeddings.npz guesses pictures --model shi-labs/versatile-diffusion
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from PIL import Image

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.applications.brain_decoding import Reconstructions
from versatile_diffusion.applications.embeddings import read_embeddings

GREY = Image.new("RGB", (224, 224), (128, 128, 128))


def reconstruct(
    pipe: VersatileDiffusionPipeline, image_embedding: Any, text_embedding: Any, start: Any, **options: Any
) -> Reconstructions:
    """Pictures of scans.

    Args:
        pipe: the model; its scheduler is replaced.
        image_embedding: what was predicted, (scans 257 768) for the official model.
        text_embedding: likewise (scans 77 768).
        start: the first guesses (in the paper those of a VDVAE), as pictures or as latents.
        options: see `VersatileDiffusionPipeline.reconstruct`.
    """
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    settings: dict[str, Any] = {
        "num_inference_steps": 50,
        "strength": 37 / 50,
        "image_weight": 0.6,
        "guidance_scale": 7.5,
        "image_unconditional": pipe.encode_context("image", GREY),
        "text_unconditional": pipe.encode_context("text", ""),
        "num_outputs": 1,
    }
    return pipe.reconstruct(image_embedding, text_embedding, start=start, **(settings | options))


def main() -> None:
    """Writes one picture for each scan. The guesses are .png files whose sorted names are in the order of the scans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("guesses", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="postcards")
    arguments = parser.parse_args()
    arrays = read_embeddings(arguments.embeddings)
    guesses = [Image.open(file) for file in sorted(arguments.guesses.glob("*.png"))]
    pipe = VersatileDiffusionPipeline.from_pretrained(arguments.model, flows=["image-variation", "text-to-image"])
    made = reconstruct(pipe, arrays["image"], arrays["text"], guesses, seed=0)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for scan, picture in enumerate(made.best):
        picture.save(arguments.output / f"{scan:04}.png")


if __name__ == "__main__":
    main()
