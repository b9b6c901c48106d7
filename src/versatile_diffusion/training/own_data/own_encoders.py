"""The encoders of a model from nothing: what of it is trained before its diffuser, on a user's pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import UInt8

from versatile_diffusion.checkpoints import Checkpoint, Components, write
from versatile_diffusion.data.tags import VARIANTS, CaptionTags
from versatile_diffusion.evaluation.retrieval import retrieval_accuracy
from versatile_diffusion.modalities import ImageModality, Modality, TextModality
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.training.own_data.own_images import OwnImages
from versatile_diffusion.training.stages.encoder_training import EncoderTraining
from versatile_diffusion.training.stages.measurements import Figures, Measurements
from versatile_diffusion.training.stages.names import ADVERSARIAL
from versatile_diffusion.training.stages.training_run import TrainingRun
from versatile_diffusion.training.tasks.clip_features import ClipFeatures
from versatile_diffusion.training.tasks.kl_autoencoder import PerceptualNetwork

OWN_ENCODERS = ("clip", "kl", ADVERSARIAL, "optimus")
"""The stages of encoders in their order: CLIP is first, since the autoencoder of images learns by what it sees."""

NEAR = 16 / 255
"""How far a value of a pixel may be off that counts as given back."""


class OwnEncoders(EncoderTraining):
    """The stages of encoders, with measures that any pictures and captions have; see `EncoderTraining`.

    Args:
        data: what is learnt from.
        validation: what is not; if it is empty, nothing is measured.
        run: where and how.
        tags: how the tags of captions are varied, which contexts are learnt from.
        checkpointing: whether the autoencoder of images computes activations twice instead of keeping them.
    """

    stages: ClassVar[tuple[str, ...]] = OWN_ENCODERS

    def __init__(
        self, data: OwnImages, validation: OwnImages, run: TrainingRun, tags: CaptionTags, checkpointing: bool
    ) -> None:
        super().__init__(data, validation, run)
        self.own, self.fresh, self.tags, self.checkpointing = data, validation, tags, checkpointing
        self.measurements = Measurements(run, f"{len(validation)} images")

    def write(self, folder: Path) -> None:
        """Trains what is not trained yet, and writes a model with these encoders whose diffuser has learnt nothing."""
        modalities: dict[str, Modality] = {each.name: each for each in (self.sharpest_image, self.text)}
        write(Checkpoint.of(Components(self.start.diffuser, modalities, self.start.scheduler)), folder)

    def perceptual(self) -> PerceptualNetwork:
        """See `EncoderTraining.perceptual`: the CLIP that was trained on the same pictures."""
        return ClipFeatures(self.clip.image)

    @cached_property
    def start(self) -> Components:
        """See `EncoderTraining.start`."""
        made = super().start
        image = made.modalities[IMAGE.name]
        assert isinstance(image, ImageModality)
        if self.checkpointing and image.autoencoder is not None:
            image.autoencoder.enable_gradient_checkpointing()  # pyright: ignore[reportUnknownMemberType] - untyped in part in diffusers
        return made

    @property
    def autoencoder_images(self) -> UInt8[np.ndarray, "n h w 3"]:
        """See `EncoderTraining.autoencoder_images`: also those without captions."""
        return self.own.every_image

    @property
    def context_texts(self) -> tuple[Sequence[str], int]:
        """See `EncoderTraining.context_texts`: in all ways in which tags are written."""
        texts, count = super().context_texts
        if not self.tags.are_varied:
            return texts, count
        ways = [way for place, text in enumerate(texts) for way in self.tags.variants(text, str(place))]
        return ways, count * VARIANTS

    @property
    def autoencoder_texts(self) -> Sequence[str]:
        """See `EncoderTraining.autoencoder_texts`: also those without pictures."""
        return self.own.every_text

    def measure_kl(self, image: ImageModality) -> Figures | None:
        """See `EncoderTraining.measure_kl`: the share of the values of pixels that come back nearly the same."""
        if not self.validation_images:
            return None
        made = [image.decode(image.encode([each]))[0] for each in self.validation_images]
        errors = torch.stack([(a - b).abs() for a, b in zip(made, self.validation_images, strict=True)])
        psnr = float(-10 * errors.square().mean().log10())
        return {"accuracy": float((errors <= NEAR).float().mean()), "psnr": psnr}

    def measure_clip(self, image: ImageModality, text: TextModality) -> Figures | None:
        """See `EncoderTraining.measure_clip`: among 64, or as many as there are."""
        texts = self.validation.texts[:: self.validation.roles.count]
        if len(texts) < 2:
            return None
        choices = min(64, len(texts))
        accuracy = retrieval_accuracy(image, text, self.validation_images, texts, choices)
        return {"accuracy": accuracy, "choices": choices}

    def measure_optimus(self, text: TextModality) -> Figures | None:
        """See `EncoderTraining.measure_optimus`: the share of the captions that come back word for word."""
        texts = list(dict.fromkeys(each.lower() for each in self.fresh.every_text))
        if not texts:
            return None
        made = text.decode(text.encode(texts), temperature=0.0)
        return {"accuracy": sum(" ".join(a.split()) == b for a, b in zip(texts, made, strict=True)) / len(texts)}
