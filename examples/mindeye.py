"""Reconstructs pictures with MindEye's settings (arXiv 2305.18274).

UniPC with 20 steps, guidance 3.5, zeros as no condition, strength 0.85 from given latents; the best comes first.

python examples/mindeye.py embeddings.npz pictures --model shi-labs/versatile-diffusion
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.applications.brain_decoding import Reconstructions
from versatile_diffusion.applications.embeddings import read_embeddings


def reconstruct(
    pipe: VersatileDiffusionPipeline,
    image_embedding: Any,
    text_embedding: Any = None,
    start: Any = None,
    **options: Any,
) -> Reconstructions:
    """Pictures of scans.

    Args:
        pipe: the model; its scheduler is replaced.
        image_embedding: what was predicted, (scans 257 768) for the official model.
        text_embedding: likewise (scans 77 768), or None.
        start: what was predicted of the latents, (scans 4 64 64), or None to start from noise.
        options: see `VersatileDiffusionPipeline.reconstruct`.
    """
    pipe.scheduler = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    settings: dict[str, Any] = {
        "num_inference_steps": 20,
        "guidance_scale": 3.5,
        "strength": 1.0 if start is None else 0.85,
        "image_unconditional": "zeros",
        "text_unconditional": "zeros",
        "rank_by": "image",
    }
    return pipe.reconstruct(image_embedding, text_embedding, start=start, **(settings | options))


def main() -> None:
    """Writes the best of eight pictures for each scan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("embeddings", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", default="postcards")
    arguments = parser.parse_args()
    arrays = read_embeddings(arguments.embeddings)
    flows = [f"{name}-to-image" for name in ("image", "text") if name in arrays]
    pipe = VersatileDiffusionPipeline.from_pretrained(arguments.model, flows=flows)
    made = reconstruct(pipe, arrays["image"], arrays.get("text"), arrays.get("start"), seed=0)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for scan, picture in enumerate(made.best):
        picture.save(arguments.output / f"{scan:04}.png")


if __name__ == "__main__":
    main()
