"""What it takes for contexts of images to tell where things are: position embeddings that begin large enough.

    python benchmarks/positions.py
    python benchmarks/positions.py --pairs 96000 --samples 25600

Each row trains CLIP from nothing on postcards, its position embeddings multiplied by the number at its left before it
learns, and from its tokens image variation, of the sizes of the bundled model. All is measured on postcards that were
not learnt from: how often an image's text is found among 64; of how many tokens a linear map tells which of the 64
patches it is; the error of image variation in the clean latent, over all levels of noise and at nine tenths, and how
much larger that one is with the tokens of another postcard.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import torch
from clean_errors import clean_error
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from jaxtyping import Float
from rich.console import Console
from rich.table import Table
from torch import Tensor

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.evaluation.retrieval import retrieval_accuracy
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.clip import ClipTextEncoder
from versatile_diffusion.modalities.parts import loaded
from versatile_diffusion.model_presets import build
from versatile_diffusion.training.loop.task import TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.settings.choices import OptimizerName, PredictionType
from versatile_diffusion.training.stages.latent_cache import LatentCache
from versatile_diffusion.training.stages.preparation import (
    by_image,
    channels_last,
    learnt_schedule,
    seeded,
    spread_positions,
)
from versatile_diffusion.training.tasks.clip import ClipPair, ClipTask
from versatile_diffusion.training.tasks.diffuser import LEVELS, DiffuserTask
from versatile_diffusion.worlds.postcards.data import Postcards, Split
from versatile_diffusion.worlds.postcards.recipe import postcards
from versatile_diffusion.worlds.postcards.training_data import ROLES, PostcardsData

LEARNT, MEASURED = 4000, 256
SPREADS = (1.0, 50.0)
NOISY = 0.9
IMAGE_VARIATION = Flow("image", "image")


def main() -> None:
    """Prints a row for each spread, and all of them as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=48_000, help="that CLIP learns from, in batches of 96")
    parser.add_argument("--samples", type=int, default=9_600, help="that the diffuser learns from, in batches of 32")
    arguments = parser.parse_args()
    table = Table("spread", "text found", "patch told", "error", "at .9", "other tokens")
    with tempfile.TemporaryDirectory() as place:
        for spread in SPREADS:
            row = f"{spread:g}", *(f"{figure:.3f}" for figure in measured(spread, arguments, Path(place, str(spread))))
            table.add_row(*row)
            print(*row, flush=True)
    Console().print(table)


def measured(spread: float, arguments: argparse.Namespace, folder: Path) -> Sequence[float]:
    """Returns a row: trains CLIP whose positions begin so far apart, and then image variation."""
    learnt = PostcardsData(Postcards(0, LEARNT), folder / "learnt")
    fresh = PostcardsData(Postcards(1, MEASURED, Split.ALL), folder / "fresh")
    model = VersatileDiffusionPipeline.from_pretrained("postcards")
    image, text = model.modalities["image"], model.modalities["text"]
    assert isinstance(image, ImageModality) and isinstance(text, TextModality)
    trained = trained_clip(learnt, text, spread, _config(arguments.pairs // 96, 96, 2.5e-3), folder / "clip")
    image.context_encoder, text.context_encoder = trained.image, trained.text

    items = fresh.image_items(0, MEASURED)
    found = retrieval_accuracy(image, text, items, fresh.texts[ROLES.complete[-1] :: ROLES.count])
    schedule = learnt_schedule(model.scheduler, PredictionType.V_PREDICTION)
    schedule.set_timesteps(len(schedule.betas))
    config = _config(arguments.samples // 32, 32, 1e-2)
    diffuser = trained_diffuser(learnt, image, schedule, config, folder)
    latents, tokens = image.encode(items), image.embed(items)
    errors = [clean_error(diffuser, schedule, IMAGE_VARIATION, latents, tokens, level) for level in (*LEVELS, NOISY)]
    others = clean_error(diffuser, schedule, IMAGE_VARIATION, latents, tokens.roll(1, 0), NOISY)
    return (
        found,
        patch_told(image, learnt.image_items(0, 1000), items),
        fmean(errors[:-1]),
        errors[-1],
        others / errors[-1],
    )


def trained_clip(
    data: PostcardsData, text: TextModality, spread: float, config: TrainingConfig, folder: Path
) -> ClipPair:
    """Returns both context encoders, trained from random weights."""
    fresh = seeded(1, lambda: build(postcards())).modalities
    image, encoder = fresh["image"], loaded(fresh["text"].context_encoder, "text context encoder", "from texts")
    assert isinstance(image, ImageModality) and isinstance(encoder, ClipTextEncoder)
    pair = ClipPair(loaded(image.context_encoder, "image context encoder", "from images"), encoder)
    spread_positions(pair.image, spread)
    captions = by_image(text.context_ids(list(data.texts)), ROLES.count)
    task = ClipTask(pair, data.images, captions, data.hard_negatives)
    return Trainer(task, config, folder, f"clip, spread {spread:g}").run().eval()


def trained_diffuser(
    data: PostcardsData, image: ImageModality, schedule: DDIMScheduler, config: TrainingConfig, folder: Path
) -> Diffuser:
    """Returns a diffuser that learnt image variation from random weights."""
    encoders = {
        "image/latents": lambda start, stop: image.encode(data.image_items(start, stop)),
        "image/tokens": lambda start, stop: image.embed(data.image_items(start, stop)),
    }
    latents = LatentCache(len(data), encoders, str, lambda flow: image.unconditional(flow.output), folder)
    diffuser = channels_last(seeded(1, lambda: build(postcards())).diffuser)
    task = DiffuserTask(diffuser, [IMAGE_VARIATION], latents, schedule)
    return Trainer(task, config, folder / "diffuser", "image variation").run().eval()


@torch.no_grad()
def patch_told(image: ImageModality, learnt: Sequence[Tensor], fresh: Sequence[Tensor]) -> float:
    """Returns how often a linear map, solved on some images, tells of others' tokens which patch each stands for."""
    tokens, others = (image.embed(list(items))[:, 1:].double() for items in (learnt, fresh))
    patches = tokens.shape[1]
    places = torch.eye(patches, dtype=tokens.dtype).repeat(len(tokens), 1)
    solved = torch.linalg.lstsq(_with_one(tokens), places).solution  # pyright: ignore[reportUnknownMemberType]
    told = (_with_one(others) @ solved).argmax(1)
    return (told == torch.arange(patches).repeat(len(others))).float().mean().item()


def _with_one(tokens: Float[Tensor, "n m d"]) -> Float[Tensor, "nm d+1"]:
    flat = tokens.flatten(0, 1)
    return torch.cat([flat, torch.ones(len(flat), 1, dtype=flat.dtype)], dim=1)


def _config(steps: int, batch_size: int, rate: float) -> TrainingConfig:
    return TrainingConfig(steps, batch_size, rate, optimizer=OptimizerName.MUON, ema_decay=0.99)


if __name__ == "__main__":
    main()
