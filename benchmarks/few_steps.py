"""Draws what a model makes in 1, 2, 4 and 8 steps with its few-step LoRA, and in 50 guided ones, of the same noise.

python benchmarks/few_steps.py docs/images/few-steps.png
python benchmarks/few_steps.py sheet.png --model my-model --prompt "a cat" --prompt "a dog"
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from PIL import Image, ImageDraw

from versatile_diffusion import FAST, QUALITY, VersatileDiffusionPipeline
from versatile_diffusion.lettering import letters

STEPS = (1, 2, 4, 8)
PROMPTS = (
    "a watercolor of a red lighthouse by the sea",
    "pixel art of a green tree in the snow",
    "an oil painting of a yellow windmill in the desert at night",
    "a blue tent in the mountains, in the rain",
    "a pencil sketch of a purple house in a city",
    "a white balloon in a meadow at sunset",
)
TILE, MARGIN, LABEL, FONT = 128, 6, 96, 15


def main(
    path: Path,
    model: str = "postcards",
    prompt: Annotated[list[str] | None, typer.Option(help="May be repeated.")] = None,
    seed: int = 6,
) -> None:
    """Writes the sheet."""
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    prompts = prompt or list(PROMPTS)
    rows = {f"{steps} step{'s' * (steps > 1)}": FAST | {"num_inference_steps": steps} for steps in STEPS} | {
        "50 steps,\nguided": QUALITY
    }
    width = LABEL + len(prompts) * (TILE + MARGIN)
    sheet = Image.new("RGB", (width, len(rows) * (TILE + MARGIN)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (words, options) in enumerate(rows.items()):
        top = number * (TILE + MARGIN)
        draw.text((MARGIN, top + TILE // 2 - FONT), words, fill="black", font=letters(FONT))
        noise = [torch.Generator().manual_seed(seed + i) for i in range(len(prompts))]
        for i, image in enumerate(pipe.text_to_image(prompts, generator=noise, **options).images):
            sheet.paste(image.resize((TILE, TILE), Image.Resampling.LANCZOS), (LABEL + i * (TILE + MARGIN), top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    typer.run(main)
