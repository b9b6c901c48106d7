"""The stages of the model of emoji: those of every model, and the network that reads emoji."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import rich

from versatile_diffusion.files import write_whole
from versatile_diffusion.modalities import ImageModality
from versatile_diffusion.processes import processes
from versatile_diffusion.training.stages.card import CardTexts
from versatile_diffusion.training.stages.measurements import Figures
from versatile_diffusion.training.stages.model_training import ModelTraining
from versatile_diffusion.training.stages.preparation import channels_last, seeded
from versatile_diffusion.training.stages.training_run import TrainingRun
from versatile_diffusion.training.tasks.kl_autoencoder import PerceptualNetwork
from versatile_diffusion.worlds.emoji.classifier import (
    EmojiClassifier,
    EmojiClassifierTask,
    save_emoji_classifier,
)
from versatile_diffusion.worlds.emoji.data.builder import build
from versatile_diffusion.worlds.emoji.data.notice import notice
from versatile_diffusion.worlds.emoji.data.split import EmojiSplit
from versatile_diffusion.worlds.emoji.data.things import THINGS
from versatile_diffusion.worlds.emoji.evaluation.stage_scores import accuracies, reconstruction_figures
from versatile_diffusion.worlds.emoji.recipe import EmojiRecipe
from versatile_diffusion.worlds.emoji.training_data import EmojiData
from versatile_diffusion.worlds.emoji.world import EMOJI_STAGES

INTRODUCTION = """\
A small Versatile Diffusion model (arXiv 2211.08332): text to image, image to text, image variation and text variation,
of a thousand everyday things as seven sets of emoji draw them, plain and in ten treatments. """

SPECIAL = 3
"""Tokens of the vocabulary of CLIP that are no words."""

LIMITS = """\
It knows the things, styles and treatments that its data names, in English, one thing to an image. It says so when a
prompt has other words. An eighth of all pairs of a thing and a set, and of a thing and a treatment, was never learnt
from; scores on these are reported apart. Photographs are read as if they were emoji.
"""


class EmojiTraining(ModelTraining):
    """The stages as properties; see `ModelTraining`.

    Args:
        recipe: what to train, and how.
        folder: of the run. The data set is written there, in `data`, and each stage has a folder.
        mixed_precision: "bf16" or "no".
        start: a model to go on from, of the recipe's sizes; see `open_source`. Random weights without it.

    Raises:
        ValueError: if the preset is for another number of words than the data set has.
    """

    stages: ClassVar[tuple[str, ...]] = EMOJI_STAGES

    def __init__(
        self, recipe: EmojiRecipe, folder: Path, mixed_precision: str = "no", start: str | Path | None = None
    ) -> None:
        self.folder, data = folder, folder / "data"
        with processes().main_process_first():
            if processes().is_main_process:
                build(data, folder / "packages", recipe.images, recipe.seed, rich.print)
        self.emoji, self.fresh, self.held_out = (
            self.part(EmojiSplit.TRAIN),
            self.part(EmojiSplit.VALIDATION, recipe.validation_images),
            self.part(EmojiSplit.HELD_OUT, recipe.validation_images),
        )
        words, known = len(self.emoji.words), recipe.preset.text.context_encoder["vocab_size"] - SPECIAL
        if words != known:
            raise ValueError(f"{data} has {words} words where the preset has {known}: take a preset of emoji({words}).")
        run = TrainingRun(folder, recipe, ("train", "emoji"), mixed_precision, start)
        super().__init__(self.emoji, self.fresh, run)

    def part(self, split: EmojiSplit, limit: int | None = None) -> EmojiData:
        """Returns a part of the data set, or its first images."""
        return EmojiData(self.folder / "data", split, limit)

    @cached_property
    def attribute_classifier(self) -> EmojiClassifier:
        """Reads emoji, to measure with. It sees held-out cells as well, in other places than they are measured in."""
        trained = self._classifier(
            "attribute_classifier", (16, 32, 64, 128, 256), (self.emoji, self.part(EmojiSplit.JUDGE))
        )
        self.measurements.measure("attribute_classifier", lambda: self._measured(trained))
        return trained

    @cached_property
    def perceptual_network(self) -> EmojiClassifier:
        """Reads emoji, for the autoencoder to learn with; it tells as well how hard held-out cells are to read."""
        trained = self._classifier("perceptual_network", (16, 32, 64, 128, 192), (self.emoji,))
        self.measurements.measure("perceptual_network", lambda: self._measured(trained))
        return trained

    def perceptual(self) -> PerceptualNetwork:
        """See `ModelTraining.perceptual`."""
        return self.perceptual_network

    @property
    def card_texts(self) -> CardTexts:
        """See `ModelTraining.card_texts`."""
        return CardTexts(
            "Emoji",
            INTRODUCTION,
            data=f"{len(self.emoji):,} images of {len(self.emoji.things):,} things\n\n{notice()}",
            measured_on="images that were not learnt from",
            evaluation="vd evaluate emoji",
            limits=LIMITS,
            prompts=("an owl", "a red car"),
        )

    def measure_kl(self, image: ImageModality) -> Figures:
        """See `ModelTraining.measure_kl`: what the classifier reads of reconstructed images, seen and held out."""
        seen = reconstruction_figures(image, self.fresh, self.attribute_classifier)
        held_out = reconstruction_figures(image, self.held_out, self.attribute_classifier)
        return {"accuracy": held_out["thing"], "seen": seen, "held_out": held_out}

    def save_companions(self, folder: Path) -> None:
        """See `ModelTraining.save_companions`: the classifier, to measure the model with, and the things it knows."""
        write_whole(folder / THINGS, (self.folder / "data" / THINGS).read_bytes())
        save_emoji_classifier(self.attribute_classifier, folder)

    def _classifier(self, stage: str, widths: Sequence[int], parts: Sequence[EmojiData]) -> EmojiClassifier:
        seed = self.run.config(stage).seed
        classifier = channels_last(seeded(seed, lambda: EmojiClassifier(len(self.emoji.things), widths)))
        return self.run.train(stage, EmojiClassifierTask(classifier, [(part.images, part.labels) for part in parts]))

    def _measured(self, classifier: EmojiClassifier) -> Figures:
        """How well the classifier itself reads."""
        seen, held_out = (
            accuracies(classifier, part.image_items(0, len(part)), part.labels) for part in (self.fresh, self.held_out)
        )
        return {"accuracy": seen["thing"], "seen": seen, "held_out": held_out}
