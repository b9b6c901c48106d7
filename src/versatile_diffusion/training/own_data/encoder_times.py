"""How long the stages of encoders take, for a model from nothing: each takes two steps, and what it came to is kept
nowhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.model_presets import Preset
from versatile_diffusion.training.loop.task import M, Task
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.own_data.from_nothing import image_keeper
from versatile_diffusion.training.own_data.own_encoders import OWN_ENCODERS, OwnEncoders
from versatile_diffusion.training.own_data.own_images import TRAINING, VALIDATION, OwnImages
from versatile_diffusion.training.own_data.own_recipe import OwnRun, own_recipe, with_vocabularies
from versatile_diffusion.training.own_data.trained_layers import mixed_precision
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.stages.measurements import Figures

LOOKED_AT = 200
"""Samples that steps are taken on."""


def encoder_times(settings: TrainingSettings, preset: Preset) -> dict[str, float]:
    """Returns the seconds of a step of each stage, on the first samples of the data set.

    Args:
        settings: of the run.
        preset: sizes of the model; its vocabularies are those of these samples.

    Raises:
        ValueError: if there are not two pictures with captions among them.
    """
    with TemporaryDirectory() as place:
        folder = Path(place)
        image_keeper(settings, preset.image.autoencoder, CaptionedData(settings.data), LOOKED_AT).keep(folder, {})
        data, validation = OwnImages(folder, TRAINING), OwnImages(folder, VALIDATION)
        recipe = own_recipe(settings, with_vocabularies(preset, data.tokenizers), len(data))
        run = _TimedRun(folder, recipe, ("train",), mixed_precision(settings))
        encoders = _UnmeasuredEncoders(data, validation, run, settings.tags, settings.checkpointing)
        for stage in OWN_ENCODERS:
            getattr(encoders, stage)
        return run.seconds


@dataclass(frozen=True)
class _TimedRun(OwnRun):
    """Takes two steps of each stage, and writes down how long the second one took."""

    seconds: dict[str, float] = field(default_factory=dict[str, float])

    def train(self, stage: str, task: Task[M]) -> M:
        """See `TrainingRun.train`."""
        trainer = Trainer(task, self.config(stage), self.folder / stage, mixed_precision=self.mixed_precision)
        trainer.update()
        begun = time.perf_counter()
        trainer.update()
        self.seconds[stage] = time.perf_counter() - begun
        return trainer.model.cpu().eval().requires_grad_(False)

    def identity(self, stage: str) -> str:
        """See `TrainingRun.identity`."""
        return "nothing"


class _UnmeasuredEncoders(OwnEncoders):
    """Encoders that nobody asks what they can do."""

    def measure_kl(self, image: ImageModality) -> Figures | None:
        """See `EncoderTraining.measure_kl`."""
        return None

    def measure_clip(self, image: ImageModality, text: TextModality) -> Figures | None:
        """See `EncoderTraining.measure_clip`."""
        return None

    def measure_optimus(self, text: TextModality) -> Figures | None:
        """See `EncoderTraining.measure_optimus`."""
        return None
