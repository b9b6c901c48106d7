"""`vd train DATA --start preset:NAME`: all stages of a model from nothing, on a user's pictures with captions."""

from __future__ import annotations

import base64
import html
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import torch

from versatile_diffusion.checkpoints.components import empty
from versatile_diffusion.data.captioned_data import SKIPPED, CaptionedData, SkippedSamples
from versatile_diffusion.data.folder import listing
from versatile_diffusion.evaluation.retrieval import retrieval_accuracy
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.model_presets import Preset
from versatile_diffusion.processes import processes
from versatile_diffusion.training.loop.metric_logger import LOG
from versatile_diffusion.training.own_data.named_presets import named_preset
from versatile_diffusion.training.own_data.own_images import TRAINING, VALIDATION, OwnImages, keep_images
from versatile_diffusion.training.own_data.own_recipe import OWN_STAGES, own_run, with_vocabularies
from versatile_diffusion.training.own_data.run_settings import MODEL, SETTINGS, require_same_run, write_settings
from versatile_diffusion.training.own_data.trained_layers import mixed_precision
from versatile_diffusion.training.report.curves import plot_curves
from versatile_diffusion.training.report.run_page import PAGE
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.stages.card import CardTexts
from versatile_diffusion.training.stages.measurements import Figures, Measurements, read_measurements
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
            write_settings(self.settings, self.folder / SETTINGS)
        for stage in (*OWN_STAGES, MODEL):
            self.stages.finish(stage)
            if main:
                self.write_page(stage)
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
        return OwnModelTraining(data, validation, run, settings.data)

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

    def write_page(self, stage: str) -> None:
        """Writes index.html: how far the run is, what each stage can do, and the losses."""
        measured = read_measurements(self.folder)
        rows = "".join(
            f"<tr><th>{name}</th>{''.join(f'<td>{key} {value}</td>' for key, value in figures.items())}</tr>"
            for name, figures in measured.items()
        )
        title = html.escape(f"Training on {self.settings.data}")
        state = f"The model is in {self.folder / MODEL}." if stage == MODEL else f"{stage} is done."
        command = f"vd train {self.folder / SETTINGS} --output {self.folder}"
        text = (
            f'<!doctype html><meta charset="utf-8"><title>{title}</title><h1>{title}</h1><p>{html.escape(state)}</p>'
            f"<pre>{html.escape(command)}</pre><h2>What each stage can do</h2><table>{rows}</table>{self._curves()}"
        )
        write_whole(self.folder / PAGE, text.encode())

    def _curves(self) -> str:
        folders = {stage: self.folder / stage for stage in OWN_STAGES if (self.folder / stage / LOG).exists()}
        if not (folders and find_spec("matplotlib")):
            return ""
        file = plot_curves(folders, self.folder / "curves.png")
        return f'<img alt="losses" src="data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}">'
