"""The encoders of a model of images and texts from nothing: autoencoders and context encoders, each measured."""

from __future__ import annotations

import copy
from abc import ABC
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Tensor

from versatile_diffusion.checkpoints import Components
from versatile_diffusion.checkpoints.components import DIFFUSER, fill
from versatile_diffusion.checkpoints.sources import read_source
from versatile_diffusion.evaluation.retrieval import retrieval_accuracy
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.clip import ClipTextEncoder
from versatile_diffusion.modalities.optimus import Optimus
from versatile_diffusion.modalities.parts import loaded
from versatile_diffusion.model_presets import build
from versatile_diffusion.processes import processes
from versatile_diffusion.training.stages.autoencoder_stages import (
    adversarial_task,
    reconstruction_task,
    with_even_channels,
)
from versatile_diffusion.training.stages.measurements import Figures, Measurements
from versatile_diffusion.training.stages.model_recipe import EncoderRecipe
from versatile_diffusion.training.stages.names import ADVERSARIAL, STAGES
from versatile_diffusion.training.stages.preparation import (
    by_image,
    channels_last,
    learnt_schedule,
    seeded,
    spread_positions,
    unit_scale,
)
from versatile_diffusion.training.stages.training_run import TrainingRun
from versatile_diffusion.training.tasks.clip import ClipPair, ClipTask
from versatile_diffusion.training.tasks.data import TrainingData
from versatile_diffusion.training.tasks.kl_autoencoder import PerceptualNetwork
from versatile_diffusion.training.tasks.optimus import OptimusTask, OptimusWithWords


class EncoderTraining(ABC):  # noqa: B024 - what derives from it brings what only it has
    """The stages as properties: asking for one trains it, or reads it if an earlier run finished it.

    The autoencoders and the context encoders are measured as soon as they are trained. What derives from this brings
    what only it has: a perceptual network, measures of its own.

    Args:
        data: what is learnt from.
        validation: data that is not learnt from, which stages are measured on.
        run: where and how.
    """

    stages: ClassVar[tuple[str, ...]] = STAGES
    """Properties that are trained, in this order. Each has a configuration of its name in the recipe."""

    def __init__(self, data: TrainingData, validation: TrainingData, run: TrainingRun) -> None:
        self.data, self.validation, self.run = data, validation, run
        self.measurements = Measurements(run, f"{run.recipe.validation_images} images")

    # ---- what may be brought ----

    def perceptual(self) -> PerceptualNetwork | None:
        """Returns the network that the autoencoder of images learns with, if there is one."""
        return None

    def measure_kl(self, image: ImageModality) -> Figures | None:
        """Returns figures of the autoencoder of images, on the validation data, if there is a measure."""
        return None

    def measure_clip(self, image: ImageModality, text: TextModality) -> Figures | None:
        """Returns how often a validation image's text is found among 64, which is one that leaves out nothing."""
        roles, images = self.validation.roles, self.validation_images
        texts = self.validation.texts[roles.complete[-1] :: roles.count]
        return {"accuracy": retrieval_accuracy(image, text, images, texts, choices=64)}

    def measure_optimus(self, text: TextModality) -> Figures | None:
        """Returns figures of the autoencoder of texts, on the validation data, if there is a measure."""
        return None

    # ---- data ----

    @property
    def recipe(self) -> EncoderRecipe:
        """What is trained, and how."""
        return self.run.recipe

    @cached_property
    def images(self) -> UInt8[np.ndarray, "n h w 3"]:
        """All images that have texts; if they must be made first, one process makes them."""
        with processes().main_process_first():
            return self.data.images

    @property
    def autoencoder_images(self) -> UInt8[np.ndarray, "n h w 3"]:
        """The images that their autoencoder learns from, which needs no texts."""
        return self.images

    @property
    def context_texts(self) -> tuple[Sequence[str], int]:
        """The texts that contexts are learnt from, image by image, and how many each image has."""
        return self.data.texts, self.data.roles.count

    @property
    def autoencoder_texts(self) -> Sequence[str]:
        """The texts that their autoencoder learns from, which needs no images."""
        return self.data.texts

    @cached_property
    def validation_images(self) -> list[Float[Tensor, "3 h w"]]:
        """The validation images as the image modality takes them."""
        return self.validation.image_items(0, len(self.validation))

    # ---- stages ----

    @cached_property
    def kl(self) -> AutoencoderKL:
        """The autoencoder of images."""
        image = self._untrained_image()
        autoencoder = channels_last(loaded(image.autoencoder, "image autoencoder", "to images"))
        perceptual = None if ADVERSARIAL in self.stages else self.perceptual()
        task = reconstruction_task(self.recipe, autoencoder, self.autoencoder_images, perceptual)
        trained = image.autoencoder = self.run.train("kl", task)
        self.measurements.measure("kl", lambda: self.measure_kl(image))
        return trained

    @cached_property
    def kl_adversarial(self) -> AutoencoderKL:
        """The autoencoder of images with a sharper decoder, where this stage is named.

        Its encoder stays, and with it all latents: the diffuser may learn before this stage, or beside it.
        """
        image, seed = self._untrained_image(), self.run.config(ADVERSARIAL).seed
        task = adversarial_task(self.recipe, self.kl, self.autoencoder_images, self.perceptual(), seed)
        trained = image.autoencoder = self.run.train(ADVERSARIAL, task).autoencoder
        self.measurements.measure(ADVERSARIAL, lambda: self.measure_kl(image))
        return trained

    @cached_property
    def clip(self) -> ClipPair:
        """Both context encoders."""
        image, text = self._untrained_image(), self._untrained_text()
        texts, count = self.context_texts
        captions = by_image(text.context_ids(list(texts)), count)
        pair = ClipPair(loaded(image.context_encoder, "image context encoder", "from images"), _clip_of(text))
        if self.run.start is None:
            spread_positions(pair.image, self.recipe.clip_position_spread)
        pair = self.run.train("clip", ClipTask(pair, self.images, captions, self.data.hard_negatives))
        image.context_encoder, text.context_encoder = pair.image, pair.text
        self.measurements.measure("clip", lambda: self.measure_clip(image, text))
        return pair

    @cached_property
    def optimus(self) -> Optimus:
        """The autoencoder of texts."""
        text = self._untrained_text()
        tokenizer, texts = text.tokenizers.gpt2, list(self.autoencoder_texts)
        if tokenizer is None or not isinstance(tokenizer.pad_token_id, int):
            raise ValueError("There is no tokenizer for the autoencoder of texts that pads: the data must bring one.")
        model = seeded(
            self.recipe.optimus.seed, lambda: OptimusWithWords(loaded(text.autoencoder, "Optimus", "to texts"))
        )
        task = OptimusTask(
            model,
            text.encoder_ids(texts),
            text.decoder_ids(texts),
            pad=tokenizer.pad_token_id,
            kl_weight=self.recipe.optimus_kl_weight,
            tokenizer=tokenizer,
        )
        trained = text.autoencoder = self.run.train("optimus", task).optimus
        self.measurements.measure("optimus", lambda: self.measure_optimus(text))
        return trained

    # ---- modalities ----

    @cached_property
    def image(self) -> ImageModality:
        """Images as the diffuser learns them, with latents of unit variance."""
        return self._image_with(self.kl)

    @cached_property
    def sharpest_image(self) -> ImageModality:
        """Images as the whole model has them: with the same latents, and the last decoder there is."""
        return self._image_with(self.kl_adversarial) if ADVERSARIAL in self.stages else self.image

    def _image_with(self, autoencoder: AutoencoderKL) -> ImageModality:
        image = self._untrained_image()
        image.autoencoder, image.context_encoder = autoencoder, self.clip.image
        if self.recipe.kl_even_channels:
            image.autoencoder = with_even_channels(image, self.data.image_items(0, 500))
        image.register_to_config(  # pyright: ignore[reportUnknownMemberType] - diffusers leaves parameters untyped
            scaling_factor=unit_scale(image, self.data.image_items(0, 500)),
            guidance_scale=self.recipe.image_guidance,
        )
        return image.eval()

    @cached_property
    def text_context(self) -> TextModality:
        """Texts as contexts, trained: images are made without Optimus."""
        text = self._untrained_text()
        text.context_encoder = self.clip.text
        return text.eval()

    @cached_property
    def text(self) -> TextModality:
        """Texts, trained, with latents of unit variance."""
        text = copy.deepcopy(self.text_context)
        text.autoencoder = self.optimus
        text.register_to_config(  # pyright: ignore[reportUnknownMemberType] - diffusers leaves parameters untyped
            scaling_factor=unit_scale(text, self.data.texts[:2000]),
            max_tokens=self.optimus.decoder.config.n_positions - 1,
            temperature=0.0,
            guidance_scale=self.recipe.text_guidance,
        )
        return text.eval()

    @cached_property
    def start(self) -> Components:
        """The model before training.

        Raises:
            CheckpointError: if the model to go on from cannot be read, or has other sizes.
        """
        stored = None if self.run.start is None else read_source(self.run.start)
        preset = self.recipe.preset
        if stored is not None:  # whose weights have learnt from contexts of its own scale
            scale = stored.diffuser.plan.config.context_scale
            preset = replace(preset, diffuser=replace(preset.diffuser, context_scale=scale))
        components = seeded(self.recipe.seed, lambda: build(preset))
        scheduler = components.scheduler
        if stored is not None:
            scheduler = stored.scheduler
            for name, module in {DIFFUSER: components.diffuser, **components.modalities}.items():
                fill(module, stored.tensors.get(name, {}), torch.float32)
        text = components.modalities["text"]
        assert isinstance(text, TextModality)
        text.tokenizers = self.data.tokenizers
        return replace(components, scheduler=learnt_schedule(scheduler, self.recipe.prediction_type))

    # ---- details ----

    def _untrained_image(self) -> ImageModality:
        """A copy of the image modality before training, with all its parts."""
        image = copy.deepcopy(self.start.modalities["image"])
        assert isinstance(image, ImageModality)
        return image

    def _untrained_text(self) -> TextModality:
        """A copy of the text modality before training, with all its parts."""
        text = copy.deepcopy(self.start.modalities["text"])
        assert isinstance(text, TextModality)
        return text


def _clip_of(text: TextModality) -> ClipTextEncoder:
    """The context encoder of texts, which the stage trains."""
    encoder = loaded(text.context_encoder, "text context encoder", "from texts")
    if not isinstance(encoder, ClipTextEncoder):
        raise ValueError(f"The stage trains CLIP, not {type(encoder).__name__}: take a preset that has it for texts.")
    return encoder
