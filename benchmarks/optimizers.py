"""What a model from nothing has learnt after equally many samples: by AdamW and by Muon, at several learning rates.

    python benchmarks/optimizers.py autoencoder
    python benchmarks/optimizers.py text-to-image --samples 25600

Each row is a whole run with warm-up and cosine, of the sizes of the bundled model, on postcards; the errors are those
of the averaged weights on postcards that were not learnt from. A diffuser learns to predict the noise, with weights of
min-SNR-γ, or the velocity, with none; its error is that of the clean latent which either stands for, and beside it
stands how much larger it is with the captions of other postcards, where nine tenths of the schedule are noise: at 1,
captions tell it nothing. Seconds depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from clean_errors import clean_error
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from jaxtyping import Float, UInt8
from rich.console import Console
from rich.table import Table
from torch import Tensor

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.model_presets import build
from versatile_diffusion.training.loop.task import Task, TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.settings.choices import OptimizerName, PredictionType
from versatile_diffusion.training.stages.latent_cache import LatentCache
from versatile_diffusion.training.stages.preparation import channels_last, learnt_schedule, seeded
from versatile_diffusion.training.tasks.diffuser import LEVELS, DiffuserTask
from versatile_diffusion.training.tasks.kl_autoencoder import KLAutoencoderTask
from versatile_diffusion.worlds.postcards.data import Postcards
from versatile_diffusion.worlds.postcards.recipe import postcards

LEARNT, MEASURED = 4000, 256
NOISY = 0.9
"""The level of noise, as a share of the schedule, at which a diffuser is asked what captions tell it."""

Learner = tuple[Task[Any], Callable[[Any], Sequence[float]]]
"""A task that begins at random, and what its model is measured by on samples that it does not learn from."""


@dataclass(frozen=True)
class Run:
    """An optimizer and its learning rate; of a diffuser also what it predicts, and what contexts are multiplied by."""

    optimizer: OptimizerName
    rate: float
    predicts: PredictionType | None = None
    context_scale: float = 1.0

    def __str__(self) -> str:
        told = [str(self.optimizer), f"{self.rate:g}", str(self.predicts or "")]
        return " ".join([*told, f"{self.context_scale:.1f}" if self.predicts else ""]).strip()


@dataclass(frozen=True)
class Subject:
    """What is learnt, and the runs to compare."""

    runs: Sequence[Run]
    columns: Sequence[str]
    batch_size: int
    learner: Callable[[Path], Callable[[Run], Learner]]


def main() -> None:
    """Prints a row for each run, and all of them as a table."""
    subjects = {"autoencoder": AUTOENCODER, "text-to-image": TEXT_TO_IMAGE}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=subjects)
    parser.add_argument("--samples", type=int, default=6400)
    parser.add_argument("--batch-size", type=int)
    arguments = parser.parse_args()
    subject: Subject = subjects[arguments.what]
    batch = arguments.batch_size or subject.batch_size
    table = Table("run", *subject.columns, "seconds")
    with tempfile.TemporaryDirectory() as place:
        learner = subject.learner(Path(place))
        for run in subject.runs:
            config = TrainingConfig(
                arguments.samples // batch, batch, run.rate, optimizer=run.optimizer, ema_decay=0.99
            )
            begun, (task, measure) = time.perf_counter(), learner(run)
            trained = Trainer(task, config, Path(place, str(run)), str(run)).run()
            found = (f"{each:.4f}" for each in measure(trained))
            row = str(run), *found, f"{time.perf_counter() - begun:.0f}"
            table.add_row(*row)
            print(*row, flush=True)
    Console().print(table, f"{arguments.what}: {arguments.samples} samples in batches of {batch}")


def autoencoder(_: Path) -> Callable[[Run], Learner]:
    """Learns to give images back; its error is the mean absolute one of pixels, from 0 to 1."""
    learnt, measured = images(0, LEARNT), images(1, MEASURED)

    def error(model: Any) -> Sequence[float]:
        pixels = torch.tensor(measured).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            return [float((model(pixels * 2 - 1).sample / 2 + 0.5 - pixels).abs().mean())]

    def learner(_: Run) -> Learner:
        image = seeded(1, lambda: build(postcards())).modalities["image"]
        return KLAutoencoderTask(channels_last(image.autoencoder), learnt, kl_weight=1e-3), error

    return learner


def text_to_image(place: Path) -> Callable[[Run], Learner]:
    """Learns to make images from texts, with the bundled encoders."""
    bundled = VersatileDiffusionPipeline.from_pretrained("postcards")
    learnt, measured = (
        encoded(bundled, seed, count, place / str(seed)) for seed, count in ((0, LEARNT), (1, MEASURED))
    )

    def learner(run: Run) -> Learner:
        schedule = learnt_schedule(bundled.scheduler, run.predicts)
        schedule.set_timesteps(len(schedule.betas))
        min_snr = 5.0 if run.predicts is PredictionType.EPSILON else None
        sizes = replace(postcards().diffuser, context_scale=run.context_scale)
        diffuser = channels_last(seeded(1, lambda: build(replace(postcards(), diffuser=sizes))).diffuser)
        task = DiffuserTask(diffuser, [Flow("text", "image")], learnt, schedule, min_snr=min_snr)
        return task, lambda model: clean_errors(model, schedule, measured)

    return learner


def clean_errors(diffuser: Diffuser, schedule: DDIMScheduler, measured: LatentCache) -> Sequence[float]:
    """Returns the error in clean latents over all levels of noise, and how much other captions add to that of noise."""
    flow = Flow("text", "image")
    latents, tokens = measured.first(flow, MEASURED)

    def error(level: float, tokens: Float[Tensor, "n m d"]) -> float:
        return clean_error(diffuser, schedule, flow, latents, tokens, level)

    return [fmean(error(level, tokens) for level in LEVELS), error(NOISY, tokens.roll(1, 0)) / error(NOISY, tokens)]


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


AUTOENCODER = Subject(
    [
        Run(OptimizerName.ADAMW, 5e-4),
        Run(OptimizerName.ADAMW, 1e-3),
        Run(OptimizerName.ADAMW, 2e-3),
        Run(OptimizerName.MUON, 1e-3),
        Run(OptimizerName.MUON, 2.5e-3),
        Run(OptimizerName.MUON, 5e-3),
    ],
    ["held-out error"],
    batch_size=8,
    learner=autoencoder,
)
TEXT_TO_IMAGE = Subject(
    [
        Run(OptimizerName.ADAMW, 1e-3, PredictionType.EPSILON),
        Run(OptimizerName.ADAMW, 2e-3, PredictionType.EPSILON),
        Run(OptimizerName.ADAMW, 2e-3, PredictionType.V_PREDICTION),
        Run(OptimizerName.MUON, 2.5e-3, PredictionType.EPSILON),
        Run(OptimizerName.MUON, 5e-3, PredictionType.EPSILON),
        Run(OptimizerName.MUON, 2.5e-3, PredictionType.V_PREDICTION),
        Run(OptimizerName.MUON, 5e-3, PredictionType.V_PREDICTION),
        Run(OptimizerName.MUON, 1e-2, PredictionType.V_PREDICTION),
        Run(OptimizerName.MUON, 1e-2, PredictionType.V_PREDICTION, context_scale=96**0.5),
        Run(OptimizerName.ADAMW, 2e-3, PredictionType.V_PREDICTION, context_scale=96**0.5),
    ],
    ["held-out error", "with other captions"],
    batch_size=32,
    learner=text_to_image,
)


if __name__ == "__main__":
    main()
