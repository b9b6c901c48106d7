"""Short calls of the pipeline, for tests."""

from collections.abc import Sequence
from typing import Any

from torch import Generator, Tensor

from versatile_diffusion import Context, VersatileDiffusionPipeline

Pipe = VersatileDiffusionPipeline
TENT, SEA = "a red tent in the meadow", "a blue lighthouse by the sea"
TEXT = Context("text", TENT)
SHORT: dict[str, Any] = {"num_inference_steps": 2, "output_type": "latent"}


def seeded(*seeds: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in seeds]


def latents(pipe: Pipe, contexts: Context | Sequence[Context], to: str = "image", **options: Any) -> Tensor:
    """What two steps from the seed 0 lead to."""
    options = {"generator": Generator().manual_seed(0)} | SHORT | options
    return pipe.generate(to, contexts, **options).latents
