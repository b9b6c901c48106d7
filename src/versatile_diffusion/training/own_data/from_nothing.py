"""`vd train DATA --start preset:NAME`: all stages of a model from nothing, on a user's pictures with captions."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch

from versatile_diffusion.checkpoints.components import empty
from versatile_diffusion.data.captioned_data import SKIPPED, CaptionedData, SkippedSamples
from versatile_diffusion.data.folder import listing
from versatile_diffusion.evaluation.retrieval import retrieval_accuracy
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.model_presets import Preset
from versatile_diffusion.processes import processes
from versatile_diffusion.training.own_data.named_presets import named_preset
from versatile_diffusion.training.own_data.own_images import TRAINING, VALIDATION, OwnImages, keep_images
from versatile_diffusion.training.own_data.own_recipe import OWN_STAGES, own_run, stage_steps, with_vocabularies
from versatile_diffusion.training.own_data.run_settings import (
    MODEL,
    SETTINGS,
    clear_run,
    require_same_run,
    write_settings,
)
from versatile_diffusion.training.own_data.stages_page import StagesPage
from versatile_diffusion.training.own_data.trained_layers import mixed_precision
from versatile_diffusion.training.report.run_page import UNFINISHED, LearntData
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.stages.card import CardTexts
from versatile_diffusion.training.stages.measurements import Figures, Measurements
from versatile_diffusion.training.stages.model_training import FLOWS, ModelTraining
from versatile_diffusion.training.stages.training_run import TrainingRun

IMAGES = "images"
"""The folder of the pictures that are kept, in that of the run."""

NEAR = 16 / 255
"""How far a value of a pixel may be off that counts as given back."""


class OwnModelTraining(ModelTraining):
    """The stages, with measures that any pictures and captions have; see `ModelTraining`.

    Args:
        data: what is learnt from.
        validation: what is not; if it is empty, nothing is measured.
        run: where and how.
        source: the data set, as the user calls it.
    """

    stages: ClassVar[tuple[str, ...]] = OWN_STAGES

    def __init__(self, data: OwnImages, validation: OwnImages, run: TrainingRun, source: str) -> None:
        super().__init__(data, validation, run)
        self.measurements, self.source = Measurements(run, f"{len(validation)} images"), source

    @property
    def card_texts(self) -> CardTexts:
        """See `ModelTraining.card_texts`."""
        return CardTexts(
            "A model of one's own",
            "A Versatile Diffusion model (arXiv 2211.08332) that learnt everything from one data set. ",
            data=f"{self.source}, {len(self.data):,} images with captions",
            measured_on="images that were not learnt from",
            evaluation="vd evaluate images",
            limits="It knows what its data shows, in the words of its captions.",
            license="other",
        )

    def measure_kl(self, image: ImageModality) -> Figures | None:
        """See `ModelTraining.measure_kl`: the share of the values of pixels that come back nearly the same."""
        if not self.validation_images:
            return None
        made = [image.decode(image.encode([each]))[0] for each in self.validation_images]
        errors = torch.stack([(a - b).abs() for a, b in zip(made, self.validation_images, strict=True)])
        psnr = float(-10 * errors.square().mean().log10())
        return {"accuracy": float((errors <= NEAR).float().mean()), "psnr": psnr}

    def measure_clip(self, image: ImageModality, text: TextModality) -> Figures | None:
        """See `ModelTraining.measure_clip`: among 64, or as many as there are."""
        texts = self.validation.texts[:: self.validation.roles.count]
        if len(texts) < 2:
            return None
        choices = min(64, len(texts))
        accuracy = retrieval_accuracy(image, text, self.validation_images, texts, choices)
        return {"accuracy": accuracy, "choices": choices}

    def measure_optimus(self, text: TextModality) -> Figures | None:
        """See `ModelTraining.measure_optimus`: the share of the captions that come back word for word."""
        texts = list(dict.fromkeys(each.lower() for each in self.validation.texts))
        if not texts:
            return None
        made = text.decode(text.encode(texts), temperature=0.0)
        return {"accuracy": sum(" ".join(a.split()) == b for a, b in zip(texts, made, strict=True)) / len(texts)}


class FromNothing:
    """A run in which a model of some sizes learns everything from a data set.

    Args:
        settings: whose start is "preset:NAME".
        folder: of the run, which goes on where it stopped.

    Raises:
        ValueError: if the folder holds a run with other settings, or there is no such preset.
    """

    def __init__(self, settings: TrainingSettings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.preset: Preset = named_preset(settings.start)
        require_same_run(settings, folder)

    def train(self) -> Path:
        """Trains all stages to their last steps, and returns the folder of the model.

        Raises:
            ValueError: if the data set cannot be used so; the message says why.
            KeyboardInterrupt: after Ctrl-C, once a checkpoint is saved.
        """
        main = processes().is_main_process
        if main:
            clear_run(self.settings, self.folder)
            write_settings(self.settings, self.folder / SETTINGS)
        for stage in (*OWN_STAGES, MODEL):
            self.stages.finish(stage)
            if main:
                self.page.write(UNFINISHED)
        if main:
            self.page.finish(self.folder / MODEL)
        return self.folder / MODEL

    @cached_property
    def stages(self) -> OwnModelTraining:
        """All that is trained."""
        settings, place = self.settings, self.folder / IMAGES
        image = empty(lambda: ImageModality(self.preset.image.autoencoder))  # to read with, which takes no weights
        origin = {"data": settings.data, "files": listing(settings.data)}
        pictures = CaptionedData(settings.data, self.skipped)
        keep_images(pictures, image, TextModality(), place, settings.validation, origin)
        data, validation = OwnImages(place, TRAINING), OwnImages(place, VALIDATION)
        preset = with_vocabularies(self.preset, data.tokenizers)
        run = own_run(settings, preset, len(data), self.folder, mixed_precision(settings))
        return OwnModelTraining(data, validation, replace(run, shown=self.page.show_stage), settings.data)

    @cached_property
    def page(self) -> StagesPage:
        """The page that shows how the run goes."""
        steps = {name: stage_steps(self.settings, name) for name in OWN_STAGES}
        return StagesPage(self.folder, self.settings, self.learnt_data, steps)

    def learnt_data(self) -> LearntData:
        """What is told of the data."""
        data, validation = self.stages.data, self.stages.validation
        about = f"{len(data):,} images with captions"
        return LearntData(about, len(validation), self.left_out.told(), self.left_out.reasons)

    @cached_property
    def skipped(self) -> SkippedSamples:
        """What of the data set could not be used."""
        return SkippedSamples(self.folder / SKIPPED, self.settings.strict)

    @property
    def left_out(self) -> SkippedSamples:
        """What of the data set could not be used: one process reads all of it."""
        return self.skipped

    @property
    def learnt(self) -> list[Flow]:
        """The flows that the model has learnt in the end."""
        return list(FLOWS)

    @property
    def start(self) -> str:
        """The model that the run begins from."""
        return self.settings.start
