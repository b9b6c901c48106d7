"""The stages of the model of postcards: those of every model, and the two networks that read postcards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch

from versatile_diffusion.evaluation.attribute_scores import score
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.training.stages.card import CardTexts
from versatile_diffusion.training.stages.measurements import Figures
from versatile_diffusion.training.stages.model_training import ModelTraining
from versatile_diffusion.training.stages.preparation import seeded
from versatile_diffusion.training.stages.training_run import TrainingRun
from versatile_diffusion.training.tasks.kl_autoencoder import PerceptualNetwork
from versatile_diffusion.worlds.postcards.attribute_classifier import (
    AttributeClassifier,
    AttributeClassifierTask,
    has_classifier,
    load_classifier,
    save_classifier,
)
from versatile_diffusion.worlds.postcards.data import ATTRIBUTES, Postcards
from versatile_diffusion.worlds.postcards.evaluation.stage_scores import (
    read_attributes,
    reconstruction_accuracy,
    text_reconstruction_accuracy,
)
from versatile_diffusion.worlds.postcards.recipe import PostcardsRecipe
from versatile_diffusion.worlds.postcards.training_data import PostcardsData, validation_data
from versatile_diffusion.worlds.postcards.world import FORMER_NAMES, POSTCARDS_STAGES

INTRODUCTION = """\
A small Versatile Diffusion model (arXiv 2211.08332): text to image, image to text, image variation and text variation,
of rendered postcards with captions. """

LIMITS = """\
It knows nothing but postcards: five places, three times of day, four kinds of weather, six subjects in six colours,
three positions, five styles, and the words that name them. It says so when a prompt has other words. A tenth of the
combinations was never trained on; scores on these are reported apart. Photographs are read as if they were postcards.
"""


class PostcardsTraining(ModelTraining):
    """The stages as properties; see `ModelTraining`.

    Args:
        recipe: what to train, and how.
        folder: of the run. Each stage has a folder in it and goes on from its newest checkpoint.
        mixed_precision: "bf16" or "no".
        start: a model to go on from, of the recipe's sizes; see `open_source`. Random weights without it. The
            perceptual network begins at random in any case.
    """

    stages: ClassVar[tuple[str, ...]] = POSTCARDS_STAGES

    def __init__(
        self, recipe: PostcardsRecipe, folder: Path, mixed_precision: str = "no", start: str | Path | None = None
    ) -> None:
        size = recipe.preset.image.autoencoder["sample_size"]
        self.postcards = PostcardsData(Postcards(recipe.seed, recipe.images, size=size), folder / "data")
        self.fresh = validation_data(self.postcards, recipe.validation_images)
        former = {today: former for former, today in FORMER_NAMES.items()}
        run = TrainingRun(folder, recipe, ("train", "postcards"), mixed_precision, start, former)
        super().__init__(self.postcards, self.fresh, run)

    @cached_property
    def attribute_classifier(self) -> AttributeClassifier:
        """Reads images, to measure with. That of the model to go on from is kept, so that scores stay comparable."""
        if self.run.start is not None and has_classifier(self.run.start):
            return load_classifier(self.run.start)
        classifier = self._classifier("attribute_classifier", widths=(32, 64, 96, 128))
        self.measurements.measure("attribute_classifier", lambda: self._measured(classifier))
        return classifier

    @cached_property
    def perceptual_network(self) -> AttributeClassifier:
        """Reads images, for the autoencoder to learn with: another network than the one that measures."""
        return self._classifier("perceptual_network", widths=(24, 48, 96, 96))

    @property
    def card_texts(self) -> CardTexts:
        """See `ModelTraining.card_texts`."""
        cards = self.postcards.postcards
        return CardTexts(
            "Postcards",
            INTRODUCTION,
            data=f"{len(cards):,} postcards of {cards.size}×{cards.size} pixels, seed {cards.seed}",
            measured_on="postcards that were not learnt from",
            evaluation="vd evaluate postcards",
            limits=LIMITS,
            prompts=("a watercolor of a red lighthouse by the sea", "pixel art of a tree in the snow"),
        )

    def perceptual(self) -> PerceptualNetwork:
        """See `ModelTraining.perceptual`."""
        return self.perceptual_network

    def measure_kl(self, image: ImageModality) -> Figures:
        """See `ModelTraining.measure_kl`: what the attribute classifier reads of reconstructed images."""
        images = self.validation_images
        return asdict(reconstruction_accuracy(self.attribute_classifier, image, images, self.fresh.scenes))

    def measure_optimus(self, text: TextModality) -> Figures:
        """See `ModelTraining.measure_optimus`: the share of the texts that come back with the same meaning."""
        return {"accuracy": text_reconstruction_accuracy(text, self.fresh.texts)}

    def save_companions(self, folder: Path) -> None:
        """See `ModelTraining.save_companions`: the attribute classifier, to measure the model with."""
        save_classifier(self.attribute_classifier, folder)

    def _classifier(self, stage: str, widths: Sequence[int]) -> AttributeClassifier:
        size, seed = self.postcards.postcards.size, self.run.config(stage).seed
        classifier = seeded(seed, lambda: AttributeClassifier(widths, size))
        return self.run.train(stage, AttributeClassifierTask(classifier, self.images, self.postcards.labels))

    def _measured(self, classifier: AttributeClassifier) -> Figures:
        """How well the attribute classifier itself reads."""
        truths = [scene.attributes for scene in self.fresh.scenes]
        return asdict(score(truths, read_attributes(classifier, torch.stack(self.validation_images)), ATTRIBUTES))
