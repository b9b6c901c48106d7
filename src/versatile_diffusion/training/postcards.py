"""All stages of the bundled model, each from what the stages before it made."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from versatile_diffusion.checkpoints import Components, save
from versatile_diffusion.datasets.pool import image_pool
from versatile_diffusion.datasets.postcards import ATTRIBUTES, VOCABULARY, Postcards, caption, choose_mention
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.evaluation.oracle import Oracle
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, Modality, TextModality
from versatile_diffusion.modalities.optimus import Optimus
from versatile_diffusion.modalities.vocabulary import word_tokenizers
from versatile_diffusion.presets import build
from versatile_diffusion.training.latents import VIEWS, PostcardLatents
from versatile_diffusion.training.recipe import Recipe
from versatile_diffusion.training.task import Task, TrainingConfig
from versatile_diffusion.training.tasks.clip import ClipPair, ClipTask
from versatile_diffusion.training.tasks.diffuser import GRADIENT_SCALES, DiffuserTask
from versatile_diffusion.training.tasks.kl_autoencoder import KLAutoencoderTask
from versatile_diffusion.training.tasks.optimus import OptimusTask, OptimusWithWords
from versatile_diffusion.training.tasks.oracle import OracleTask, to_pictures
from versatile_diffusion.training.trainer import Trainer

IMAGE_VARIATION, TEXT_TO_IMAGE = Flow("image", "image"), Flow("text", "image")
IMAGE_TO_TEXT, TEXT_VARIATION = Flow("image", "text"), Flow("text", "text")

M = TypeVar("M", bound=nn.Module)


class PostcardsTraining:
    """The stages as properties: asking for one trains it, or reads it if an earlier run finished it.

    Args:
        recipe: what to train, and how.
        folder: of the run. Each stage has a folder in it and goes on from its newest checkpoint.
        mixed_precision: "bf16" or "no".
    """

    def __init__(self, recipe: Recipe, folder: Path, mixed_precision: str = "no") -> None:
        self.recipe, self.folder, self.mixed_precision = recipe, folder, mixed_precision
        size = recipe.preset.image.autoencoder["sample_size"]
        self.postcards = Postcards(recipe.seed, recipe.pictures, size=size)

    # ---- data ----

    @cached_property
    def images(self) -> UInt8[np.ndarray, "n h w 3"]:
        """All pictures."""
        return image_pool(self.postcards, self.folder / "data")

    @cached_property
    def texts(self) -> list[str]:
        """Four texts of each picture: two that leave out the same things, then two that leave out nothing."""
        return [text for index in range(len(self.postcards)) for text in texts_of(self.postcards, index)]

    @cached_property
    def labels(self) -> Int64[Tensor, "n attributes"]:
        """The attributes of each picture."""
        return torch.tensor([self.postcards.scene(index).indices for index in range(len(self.postcards))])

    @cached_property
    def untrained(self) -> Components:
        """The model at its random start."""
        with torch.random.fork_rng():
            torch.manual_seed(self.recipe.seed)
            components = build(self.recipe.preset)
        self._text_of(components).tokenizers = word_tokenizers(VOCABULARY)
        return components

    # ---- stages ----

    @cached_property
    def oracle(self) -> Oracle:
        """Reads pictures, to measure with."""
        return self._classifier("oracle", self.recipe.oracle, widths=(32, 64, 96, 128))

    @cached_property
    def critic(self) -> Oracle:
        """Reads pictures, for the autoencoder to learn with: another network than the oracle, from another seed."""
        return self._classifier("critic", self.recipe.critic, widths=(24, 48, 96, 96))

    @cached_property
    def kl(self) -> AutoencoderKL:
        """The autoencoder of pictures."""
        autoencoder = self._image_of(self.untrained).autoencoder.to(memory_format=torch.channels_last)
        task = KLAutoencoderTask(autoencoder, self.critic, self.images, self.recipe.kl_feature_weight)
        return self._train("kl", autoencoder, task, self.recipe.kl)

    @cached_property
    def clip(self) -> ClipPair:
        """Both context encoders."""
        text = self._text_of(self.untrained)
        pair = ClipPair(self._image_of(self.untrained).context_encoder, text.context_encoder)
        task = ClipTask(pair, self.images, text.context_ids(self.texts).unflatten(0, (len(self.postcards), -1)))
        return self._train("clip", pair, task, self.recipe.clip)

    @cached_property
    def optimus(self) -> Optimus:
        """The autoencoder of texts."""
        text = self._text_of(self.untrained)
        encoder_ids, decoder_ids = text.encoder_ids(self.texts), text.decoder_ids(self.texts)
        pad: int = text.tokenizers.gpt2.pad_token_id  # pyright: ignore
        model = OptimusWithWords(text.autoencoder)
        task = OptimusTask(model, encoder_ids, decoder_ids, pad, self.recipe.optimus_kl_weight)
        return self._train("optimus", model, task, self.recipe.optimus).optimus

    @cached_property
    def image(self) -> ImageModality:
        """Pictures, trained, with latents of unit variance."""
        image = copy.deepcopy(self._image_of(self.untrained))
        image.autoencoder, image.context_encoder = self.kl, self.clip.image
        image.register_to_config(scaling_factor=unit_scale(image, self.pictures(0, 500)))
        return image.eval()

    @cached_property
    def text_context(self) -> TextModality:
        """Texts as contexts, trained."""
        text = copy.deepcopy(self._text_of(self.untrained))
        text.context_encoder = self.clip.text
        return text.eval()

    @cached_property
    def text(self) -> TextModality:
        """Texts, trained, with latents of unit variance."""
        text = copy.deepcopy(self.text_context)
        text.autoencoder = self.optimus
        text.register_to_config(scaling_factor=unit_scale(text, self.texts[:2000]))
        return text.eval()

    @cached_property
    def latents(self) -> PostcardLatents:
        """Latents and tokens of all pictures and texts."""

        def views(start: int, stop: int) -> list[str]:
            return self.texts[start * VIEWS : stop * VIEWS]

        def nothing(flow: Flow) -> Tensor:
            context: Modality = self.image if flow.context == "image" else self.text_context
            return context.unconditional(flow.output)

        encoders = {
            "image/latents": lambda start, stop: self.image.encode(self.pictures(start, stop)),
            "image/tokens": lambda start, stop: self.image.embed(self.pictures(start, stop)),
            "text/latents": lambda start, stop: self.text.encode(views(start, stop)).unflatten(0, (-1, VIEWS)),
            "text/tokens": lambda start, stop: self.text_context.embed(views(start, stop)).unflatten(0, (-1, VIEWS)),
        }
        return PostcardLatents(len(self.postcards), encoders, nothing, self.folder)

    @cached_property
    def one_flow(self) -> Diffuser:
        """The diffuser after image variation (paper, section 3.4)."""
        return self._diffuser("one_flow", self.untrained.diffuser, [IMAGE_VARIATION])

    @cached_property
    def two_flow(self) -> Diffuser:
        """The diffuser after text to image as well."""
        return self._diffuser("two_flow", self.one_flow, [IMAGE_VARIATION, TEXT_TO_IMAGE])

    @cached_property
    def four_flow(self) -> Diffuser:
        """The diffuser after all flows."""
        flows = [IMAGE_VARIATION, TEXT_TO_IMAGE, IMAGE_TO_TEXT, TEXT_VARIATION]
        return self._diffuser("four_flow", self.two_flow, flows)

    @cached_property
    def model(self) -> Components:
        """The whole model, saved in the run's folder."""
        modalities = {"image": self.image, "text": self.text}
        components = Components(self.four_flow.eval(), dict(modalities), self.untrained.scheduler)
        save(components, self.folder / "model", dtype=torch.float16)
        self.oracle.save_pretrained(self.folder / "model" / "oracle")
        return components

    # ---- details ----

    def pictures(self, start: int, stop: int) -> Sequence[Float[Tensor, "3 h w"]]:
        """Pictures from one index to before another, as the image modality takes them."""
        return list(to_pictures(torch.from_numpy(self.images[start:stop])))

    def _classifier(self, name: str, config: TrainingConfig, widths: Sequence[int]) -> Oracle:
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            oracle = Oracle(widths, self.postcards.size)
        return self._train(name, oracle, OracleTask(oracle, self.images, self.labels), config)

    def _diffuser(self, name: str, start: Diffuser, flows: Sequence[Flow]) -> Diffuser:
        diffuser = copy.deepcopy(start).to(memory_format=torch.channels_last)
        scales = GRADIENT_SCALES if len(flows) == 4 else None
        task = DiffuserTask(
            diffuser,
            flows,
            self.latents,
            self.untrained.scheduler,
            min_snr=self.recipe.min_snr,
            gradient_scales=scales,
        )
        return self._train(name, diffuser, task, getattr(self.recipe, name))

    def _train(self, name: str, model: M, task: Task, config: TrainingConfig) -> M:
        trainer = Trainer(task, config, self.folder / name, name, self.mixed_precision)
        trained: Any = trainer.run()
        return trained.cpu().eval().requires_grad_(False)

    @staticmethod
    def _image_of(components: Components) -> Any:
        return components.modalities["image"]

    @staticmethod
    def _text_of(components: Components) -> Any:
        return components.modalities["text"]


def unit_scale(modality: Modality, items: Sequence[Any]) -> float:
    """The factor that gives the latents of the items unit variance."""
    return float(modality.config["scaling_factor"] / modality.encode(items).std())


def texts_of(postcards: Postcards, index: int) -> list[str]:
    """Four texts of a postcard, a function of its seed and index; see `PostcardsTraining.texts`."""
    scene = postcards.scene(index)
    rng = np.random.default_rng((postcards.seed, index, 1))
    some, everything = choose_mention(rng), list(ATTRIBUTES)
    return [caption(scene, rng, mention) for mention in (some, some, everything, everything)]
