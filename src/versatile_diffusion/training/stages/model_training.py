"""All stages of a model of images and texts in the paper's order, each from what the stages before it made."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

from versatile_diffusion.checkpoints import Checkpoint, Components, write
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import Modality
from versatile_diffusion.processes import processes
from versatile_diffusion.training.stages.card import CardTexts, write_card
from versatile_diffusion.training.stages.encoder_training import EncoderTraining
from versatile_diffusion.training.stages.latent_cache import Encode, LatentCache
from versatile_diffusion.training.stages.model_recipe import ModelRecipe
from versatile_diffusion.training.stages.names import MODEL
from versatile_diffusion.training.stages.preparation import by_image, channels_last
from versatile_diffusion.training.tasks.diffuser import GRADIENT_SCALES, DiffuserTask

IMAGE_VARIATION, TEXT_TO_IMAGE = Flow("image", "image"), Flow("text", "image")
IMAGE_TO_TEXT, TEXT_VARIATION = Flow("image", "text"), Flow("text", "text")
FLOWS = (IMAGE_VARIATION, TEXT_TO_IMAGE, IMAGE_TO_TEXT, TEXT_VARIATION)


class ModelTraining(EncoderTraining):
    """The stages of encoders, and then those of the diffuser; see `EncoderTraining`.

    A world derives from this to bring what only it has: a perceptual network, measures of its own, what goes with the
    model.
    """

    def finish(self, stage: str) -> None:
        """Trains up to a stage, or the whole model, with those that it needs.

        Raises:
            ValueError: if there is no such stage.
        """
        if stage not in (*self.stages, MODEL):
            raise ValueError(f"There is no stage {stage!r}, only {', '.join((*self.stages, MODEL))}.")
        getattr(self, stage)

    @property
    def recipe(self) -> ModelRecipe:
        """See `EncoderTraining.recipe`."""
        recipe = super().recipe
        assert isinstance(recipe, ModelRecipe)
        return recipe

    # ---- what a world may bring ----

    @property
    @abstractmethod
    def card_texts(self) -> CardTexts:
        """What the model card says of the world."""

    def save_companions(self, folder: Path) -> None:
        """Saves, in the folder of the finished model, what goes with it, such as a classifier to measure it with."""

    # ---- the diffuser ----

    @cached_property
    def latents(self) -> LatentCache:
        """Latents and tokens of all images and texts."""
        data, roles = self.data, self.data.roles

        def unconditional(flow: Flow) -> Float[Tensor, "1 n d"]:
            context: Modality = self.image if flow.context == self.image.name else self.text_context
            return context.unconditional(flow.output)

        encoders: dict[str, Encode] = {
            "image/latents": lambda start, stop: self.image.encode(data.image_items(start, stop)),
            "image/tokens": lambda start, stop: self.image.embed(data.image_items(start, stop)),
            "text/latents": lambda start, stop: by_image(self.text.encode(data.text_items(start, stop)), roles.count),
            "text/tokens": lambda start, stop: by_image(
                self.text_context.embed(data.text_items(start, stop)), roles.count
            ),
        }
        return LatentCache(len(data), encoders, self._origin, unconditional, self.run.folder, {"text": roles})

    @cached_property
    def one_flow(self) -> Diffuser:
        """The diffuser after image variation (paper, section 3.4)."""
        return self._diffuser("one_flow", self.start.diffuser, FLOWS[:1])

    @cached_property
    def two_flow(self) -> Diffuser:
        """The diffuser after text to image as well."""
        return self._diffuser("two_flow", self.one_flow, FLOWS[:2])

    @cached_property
    def four_flow(self) -> Diffuser:
        """The diffuser after all flows."""
        return self._diffuser("four_flow", self.two_flow, FLOWS, GRADIENT_SCALES)

    @cached_property
    def model(self) -> Components:
        """The whole model, saved in the run's folder with what goes with it and a model card."""
        modalities: dict[str, Modality] = {"image": self.sharpest_image, "text": self.text}
        components = Components(self.four_flow, modalities, self.start.scheduler)
        if processes().is_main_process:
            folder = self.run.folder / "model"
            write(Checkpoint.of(components), folder, dtype=torch.float16)
            self.save_companions(folder)
            write_card(self.run, folder, self.stages, self.card_texts)
        return components

    # ---- details ----

    def _diffuser(
        self, stage: str, start: Diffuser, flows: Sequence[Flow], gradient_scales: Mapping[str, float] | None = None
    ) -> Diffuser:
        modalities: dict[str, Modality] = {"image": self.image}
        if any(flow.output == "text" for flow in flows):
            modalities["text"] = self.text
        parts = [part for flow in flows for part in (f"{flow.output}/latents", f"{flow.context}/tokens")]
        scheduler = self.start.scheduler
        assert isinstance(scheduler, DDIMScheduler)
        origins = {part: self._origin(part) for part in parts}
        self.run.require_same_latents(stage, origins | {"predictions": scheduler.config["prediction_type"]})
        task = DiffuserTask(
            channels_last(copy.deepcopy(start).requires_grad_(True)),
            flows,
            self.latents,
            scheduler,
            min_snr=self.recipe.min_snr,
            timestep_shift=self.recipe.timestep_shift,
            gradient_scales=gradient_scales,
            multiples=flow_multiples(self.recipe),
            modalities=modalities,
        )
        return self.run.train(stage, task)

    def _origin(self, part: str) -> str:
        """What latents or tokens come from; see `LatentCache`. Its stage must have been trained."""
        stage = {"image/latents": "kl", "text/latents": "optimus"}.get(part, "clip")
        return f"{stage} at {self.run.identity(stage)}, {self.data.description}"


def flow_multiples(recipe: ModelRecipe) -> dict[Flow, int]:
    """Returns how many samples each flow takes for each sample of a batch; see `DiffuserTask`."""
    return {
        TEXT_TO_IMAGE: recipe.text_to_image_multiple,
        IMAGE_TO_TEXT: recipe.text_multiple,
        TEXT_VARIATION: recipe.text_multiple,
    }
