"""Trains a LoRA on a few postcards with the bundled model, for a handful of steps, and saves it.

python examples/lora.py lora
vd text-to-image "a red tent in the snow" --lora lora:0.8
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.nn.functional import mse_loss

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.pipeline.lora import add_lora, save_lora
from versatile_diffusion.worlds.postcards import Postcards
from versatile_diffusion.worlds.postcards.training_data import PostcardsData


def main() -> None:
    """Rank 4 on the cross-attention to texts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--steps", type=int, default=8)
    options = parser.parse_args()
    pipe = VersatileDiffusionPipeline.from_pretrained("postcards", flows=["text-to-image"])
    with TemporaryDirectory() as folder:
        data = PostcardsData(Postcards(seed=5, length=8), Path(folder))
        latents = pipe.encode("image", data.image_items(0, 8))
        tokens = pipe.encode_context("text", data.texts[::4])

    add_lora(pipe.diffuser, rank=4, layers="cross-attention", modality="text")
    trained = [parameter for parameter in pipe.diffuser.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    for step in range(options.steps):
        noise, timesteps = torch.randn_like(latents), torch.randint(1000, (len(latents),))
        noisy = pipe.scheduler.add_noise(latents, noise, timesteps)
        loss = mse_loss(pipe.diffuser(noisy, timesteps, "image", [ContextTokens("text", tokens)]), noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"step {step + 1}: {loss.item():.4f}")
    save_lora(pipe.diffuser, options.output)


if __name__ == "__main__":
    main()
