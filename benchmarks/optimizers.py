"""What a model from nothing has learnt after equally many samples by AdamW and by Muon, at several learning rates.

    python benchmarks/optimizers.py autoencoder
    python benchmarks/optimizers.py text-to-image --samples 25600

Each row is a whole run with warm-up and cosine, of the sizes of the bundled model, on postcards; the errors are those
of the averaged weights on postcards that were not learnt from. Seconds depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.table import Table
from torch import Tensor

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.flows import Flow
from versatile_diffusion.model_presets import build
from versatile_diffusion.training.loop.task import Task, TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.settings.choices import OptimizerName
from versatile_diffusion.training.stages.latent_cache import LatentCache
from versatile_diffusion.training.stages.preparation import channels_last, seeded
from versatile_diffusion.training.tasks.diffuser import DiffuserTask
from versatile_diffusion.training.tasks.kl_autoencoder import KLAutoencoderTask
from versatile_diffusion.worlds.postcards.data import Postcards
from versatile_diffusion.worlds.postcards.recipe import postcards

TEXT_TO_IMAGE = Flow("text", "image")
LEARNT, MEASURED = 4000, 256
RUNS = (
    (OptimizerName.ADAMW, 5e-4),
    (OptimizerName.ADAMW, 1e-3),
    (OptimizerName.ADAMW, 2e-3),
    (OptimizerName.MUON, 1e-3),
    (OptimizerName.MUON, 2.5e-3),
    (OptimizerName.MUON, 5e-3),
)

Learner = tuple[Task[Any], Callable[[Any], float]]
"""A task that begins at random, and the error of its model on what is not learnt from."""


def main() -> None:
    """Prints a row for each run, and all of them as a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["autoencoder", "text-to-image"])
    parser.add_argument("--samples", type=int, default=6400)
    parser.add_argument("--batch-size", type=int)
    arguments = parser.parse_args()
    batch = arguments.batch_size or {"autoencoder": 8, "text-to-image": 32}[arguments.what]
    table = Table("optimizer", "learning rate", "held-out error", "seconds")
    with tempfile.TemporaryDirectory() as place:
        learner = autoencoder if arguments.what == "autoencoder" else text_to_image(Path(place))
        for optimizer, rate in RUNS:
            config = TrainingConfig(arguments.samples // batch, batch, rate, optimizer=optimizer, ema_decay=0.99)
            begun, (task, error), title = time.perf_counter(), learner(), f"{optimizer} {rate:g}"
            trained = Trainer(task, config, Path(place, title), title).run()
            row = optimizer, f"{rate:g}", f"{error(trained):.4f}", f"{time.perf_counter() - begun:.0f}"
            table.add_row(*row)
            print(*row, flush=True)
    Console().print(table, f"{arguments.what}: {arguments.samples} samples in batches of {batch}")


def autoencoder() -> Learner:
    """Learns to give images back; its error is the mean absolute one of pixels, from 0 to 1."""
    image = seeded(1, lambda: build(postcards())).modalities["image"]
    learnt, measured = images(0, LEARNT), images(1, MEASURED)

    def error(model: Any) -> float:
        pixels = torch.tensor(measured).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            return float((model(pixels * 2 - 1).sample / 2 + 0.5 - pixels).abs().mean())

    return KLAutoencoderTask(channels_last(image.autoencoder), learnt, kl_weight=1e-3), error


def text_to_image(place: Path) -> Callable[[], Learner]:
    """Learns to make images from texts, with the bundled encoders; its error is that of the noise it predicts."""
    bundled = VersatileDiffusionPipeline.from_pretrained("postcards")
    scheduler = bundled.scheduler
    assert isinstance(scheduler, DDIMScheduler)
    learnt, measured = (
        encoded(bundled, seed, count, place / str(seed)) for seed, count in ((0, LEARNT), (1, MEASURED))
    )

    def learner() -> Learner:
        diffuser = channels_last(seeded(1, lambda: build(postcards())).diffuser)
        task = DiffuserTask(diffuser, [TEXT_TO_IMAGE], learnt, scheduler, min_snr=5.0, validation=measured)
        return task, lambda model: fmean(task.validate(model).values())

    return learner


def encoded(model: VersatileDiffusionPipeline, seed: int, count: int, folder: Path) -> LatentCache:
    """Returns latents of postcards' images with tokens of their captions."""
    folder.mkdir()
    cards = Postcards(seed, count)
    image, text = model.modalities["image"], model.modalities["text"]

    def latents(start: int, stop: int) -> Float[Tensor, "n c y x"]:
        return image.encode(
            [torch.tensor(card.image).permute(2, 0, 1) / 255 for card in map(cards.__getitem__, range(start, stop))]
        )

    def tokens(start: int, stop: int) -> Float[Tensor, "n m d"]:
        return text.embed([card.caption for card in map(cards.__getitem__, range(start, stop))])

    parts = {"image/latents": latents, "text/tokens": tokens}
    return LatentCache(count, parts, str, lambda flow: text.unconditional(flow.output), folder)


def images(seed: int, count: int) -> UInt8[np.ndarray, "n h w 3"]:
    """Returns the images of the first postcards of a seed."""
    return np.stack([card.image for card in Postcards(seed, count)])


if __name__ == "__main__":
    main()
