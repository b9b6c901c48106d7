"""Paints the pictures of the README with a bundled model.

python examples/gallery.py docs/images/postcards.png
python examples/gallery.py docs/images/emoji.png --model emoji
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.evaluation.exhibition import Exhibit, Section, exhibition

PROMPTS = {
    "postcards": (
        "a watercolor of a red lighthouse by the sea, at sunset",
        "a postcard of a yellow house in a meadow, by day",
        "an oil painting of a blue tent in the mountains, at night",
        "a white balloon in the desert, in clear weather, as a postcard",
        "a pencil sketch of a green tree in the city, in the rain",
        "pixel art of a purple windmill by the sea, at night",
        "a postcard of a red balloon below high mountains, at sunset",
        "an oil painting of a green house in the snow, on the left",
    ),
    "emoji": (
        "a guitar, 3d style",
        "a cat face, flat style",
        "an owl, shaded style",
        "a hamburger, cartoon style",
        "pixel art of a rocket",
        "a line drawing of a bicycle",
        "a castle at night",
        "a strawberry on a blue background",
    ),
}


def main() -> None:
    """Paints every prompt once, with the seeds 0 to 7: none was chosen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", choices=PROMPTS, default="postcards")
    options = parser.parse_args()
    output: Path = options.output
    prompts = list(PROMPTS[options.model])
    pipe = VersatileDiffusionPipeline.from_pretrained(options.model, flows=["text-to-image"])
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(prompts))]
    pictures = pipe.text_to_image(prompts, generator=generators).images
    exhibits = [Exhibit((picture,), text) for picture, text in zip(pictures, prompts, strict=True)]
    output.parent.mkdir(parents=True, exist_ok=True)
    exhibition([Section("", exhibits, columns=4)]).save(output)


if __name__ == "__main__":
    main()
