"""All stages of the bundled model, each from what the stages before it made."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import UInt8
from torch import Tensor, nn

from versatile_diffusion.checkpoints import Checkpoint, Components, write
from versatile_diffusion.checkpoints.components import DIFFUSER, fill
from versatile_diffusion.checkpoints.sources import read_source
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import ImageModality, Modality, TextModality
from versatile_diffusion.modalities.optimus import Optimus
from versatile_diffusion.modalities.vocabulary import word_tokenizers
from versatile_diffusion.model_presets import build
from versatile_diffusion.processes import processes
from versatile_diffusion.training.card import record_run, write_card
from versatile_diffusion.training.checkpoint import checkpoints, identity
from versatile_diffusion.training.latent_cache import PostcardLatents
from versatile_diffusion.training.task import Task, TrainingConfig
from versatile_diffusion.training.tasks.clip import ClipPair, ClipTask
from versatile_diffusion.training.tasks.diffuser import GRADIENT_SCALES, DiffuserTask
from versatile_diffusion.training.tasks.kl_autoencoder import KLAutoencoderTask
from versatile_diffusion.training.tasks.optimus import OptimusTask, OptimusWithWords
from versatile_diffusion.training.trainer import Trainer
from versatile_diffusion.worlds.postcards import ATTRIBUTES, VOCABULARY, Postcards
from versatile_diffusion.worlds.postcards.attribute_classifier import Oracle
from versatile_diffusion.worlds.postcards.classifier_task import OracleTask
from versatile_diffusion.worlds.postcards.evaluation import has_oracle, load_oracle
from versatile_diffusion.worlds.postcards.material import VIEWS, Material, fresh
from versatile_diffusion.worlds.postcards.measurements import Measurements
from versatile_diffusion.worlds.postcards.recipe import Recipe

IMAGE_VARIATION, TEXT_TO_IMAGE = Flow("image", "image"), Flow("text", "image")
IMAGE_TO_TEXT, TEXT_VARIATION = Flow("image", "text"), Flow("text", "text")

TWINS_IN = [6.0 if name == "position" else 1.0 for name in ATTRIBUTES]
"""What CLIP is shown twins in: left alone, it learns all attributes before the position, or none of it."""

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")


class PostcardsTraining:
    """The stages as properties: asking for one trains it, or reads it if an earlier run finished it.

    The oracle, the autoencoders and the context encoders are measured as soon as they are trained.

    Args:
        recipe: what to train, and how.
        folder: of the run. Each stage has a folder in it and goes on from its newest checkpoint.
        mixed_precision: "bf16" or "no".
        start: a model to go on from, of the recipe's sizes; see `open_source`. Random weights without it. The critic
            begins at random in any case.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, mixed_precision: str = "no", start: str | Path | None = None
    ) -> None:
        self.recipe, self.folder, self.mixed_precision, self.start = recipe, folder, mixed_precision, start
        size = recipe.preset.image.autoencoder["sample_size"]
        self.material = Material(Postcards(recipe.seed, recipe.pictures, size=size), folder / "data")
        self.measurements = Measurements(folder, fresh(self.material, recipe.measured))

    @cached_property
    def images(self) -> UInt8[np.ndarray, "n h w 3"]:
        """All pictures, rendered by one process."""
        with processes().main_process_first():
            return self.material.images

    # ---- what reads pictures ----

    @cached_property
    def oracle(self) -> Oracle:
        """Reads pictures, to measure with. That of the model to go on from is kept: scores stay comparable."""
        if self.start is not None and has_oracle(self.start):
            return load_oracle(self.start)
        oracle = self._classifier("oracle", self.recipe.oracle, widths=(32, 64, 96, 128))
        self.measurements.oracle(oracle)
        return oracle

    @cached_property
    def critic(self) -> Oracle:
        """Reads pictures, for the autoencoder to learn with: another network than the oracle, from another seed."""
        return self._classifier("critic", self.recipe.critic, widths=(24, 48, 96, 96))

    # ---- autoencoders and context encoders ----

    @cached_property
    def kl(self) -> AutoencoderKL:
        """The autoencoder of pictures."""
        image = self._untrained("image")
        autoencoder = _channels_last(image.autoencoder)
        weights = self.recipe.kl_feature_weight, self.recipe.kl_divergence_weight
        task = KLAutoencoderTask(autoencoder, self.critic, self.images, *weights)
        image.autoencoder = self._train("kl", task)
        self.measurements.kl(image, self.oracle)
        return image.autoencoder

    @cached_property
    def clip(self) -> ClipPair:
        """Both context encoders."""
        image, text = self._untrained("image"), self._untrained("text")
        captions = text.context_ids(self.material.texts).unflatten(0, (-1, VIEWS))
        pair = ClipPair(image.context_encoder, text.context_encoder)
        task = ClipTask(pair, self.images, captions, self.material.labels, TWINS_IN)
        pair = self._train("clip", task)
        image.context_encoder, text.context_encoder = pair.image, pair.text
        self.measurements.clip(image, text)
        return pair

    @cached_property
    def optimus(self) -> Optimus:
        """The autoencoder of texts."""
        text = self._untrained("text")
        tokenizer: Any = text.tokenizers.gpt2
        model = _seeded(self.recipe.optimus.seed, lambda: OptimusWithWords(text.autoencoder))
        task = OptimusTask(
            model,
            text.encoder_ids(self.material.texts),
            text.decoder_ids(self.material.texts),
            pad=tokenizer.pad_token_id,
            kl_weight=self.recipe.optimus_kl_weight,
            tokenizer=tokenizer,
        )
        text.autoencoder = self._train("optimus", task).optimus
        self.measurements.optimus(text)
        return text.autoencoder

    # ---- modalities ----

    @cached_property
    def image(self) -> ImageModality:
        """Pictures, trained, with latents of unit variance."""
        image = self._untrained("image")
        image.autoencoder, image.context_encoder = self.kl, self.clip.image
        image.register_to_config(
            scaling_factor=unit_scale(image, self.material.pictures(0, 500)),
            guidance_scale=self.recipe.image_guidance,
        )
        return image.eval()

    @cached_property
    def text_context(self) -> TextModality:
        """Texts as contexts, trained: pictures are made without Optimus."""
        text = self._untrained("text")
        text.context_encoder = self.clip.text
        return text.eval()

    @cached_property
    def text(self) -> TextModality:
        """Texts, trained, with latents of unit variance."""
        text = copy.deepcopy(self.text_context)
        text.autoencoder = self.optimus
        text.register_to_config(
            scaling_factor=unit_scale(text, self.material.texts[:2000]),
            max_tokens=self.optimus.decoder.config.n_positions - 1,
            temperature=0.0,
            guidance_scale=self.recipe.text_guidance,
        )
        return text.eval()

    # ---- the diffuser ----

    @cached_property
    def latents(self) -> PostcardLatents:
        """Latents and tokens of all pictures and texts."""

        def views(start: int, stop: int) -> list[str]:
            return self.material.texts[start * VIEWS : stop * VIEWS]

        def nothing(flow: Flow) -> Tensor:
            context: Modality = self.image if flow.context == "image" else self.text_context
            return context.unconditional(flow.output)

        encoders = {
            "image/latents": lambda start, stop: self.image.encode(self.material.pictures(start, stop)),
            "image/tokens": lambda start, stop: self.image.embed(self.material.pictures(start, stop)),
            "text/latents": lambda start, stop: self.text.encode(views(start, stop)).unflatten(0, (-1, VIEWS)),
            "text/tokens": lambda start, stop: self.text_context.embed(views(start, stop)).unflatten(0, (-1, VIEWS)),
        }
        return PostcardLatents(self.recipe.pictures, encoders, self._origin, nothing, self.folder)

    @cached_property
    def one_flow(self) -> Diffuser:
        """The diffuser after image variation (paper, section 3.4)."""
        return self._diffuser("one_flow", self._start.diffuser, [IMAGE_VARIATION])

    @cached_property
    def two_flow(self) -> Diffuser:
        """The diffuser after text to image as well."""
        return self._diffuser("two_flow", self.one_flow, [IMAGE_VARIATION, TEXT_TO_IMAGE])

    @cached_property
    def four_flow(self) -> Diffuser:
        """The diffuser after all flows."""
        flows = [IMAGE_VARIATION, TEXT_TO_IMAGE, IMAGE_TO_TEXT, TEXT_VARIATION]
        return self._diffuser("four_flow", self.two_flow, flows, GRADIENT_SCALES)

    @cached_property
    def model(self) -> Components:
        """The whole model, saved in the run's folder with the oracle and a model card."""
        modalities: dict[str, Modality] = {"image": self.image, "text": self.text}
        components = Components(self.four_flow, modalities, self._start.scheduler)
        if processes().is_main_process:
            folder = self.folder / "model"
            write(Checkpoint.of(components), folder, dtype=torch.float16)
            self.oracle.save_pretrained(folder / "oracle")
            for weights in (folder / "oracle").glob("*.safetensors"):
                weights.chmod((folder / "model_index.json").stat().st_mode)  # safetensors lets the owner alone read it
            write_card(self.folder, folder)
        return components

    # ---- details ----

    @cached_property
    def _start(self) -> Components:
        """The model before training.

        Raises:
            CheckpointError: if the model to go on from cannot be read, or has other sizes.
        """
        components = _seeded(self.recipe.seed, lambda: build(self.recipe.preset))
        if self.start is not None:
            stored = read_source(self.start).tensors
            for name, module in {DIFFUSER: components.diffuser, **components.modalities}.items():
                fill(module, stored.get(name, {}), torch.float32)
        text: Any = components.modalities["text"]
        text.tokenizers = word_tokenizers(VOCABULARY)
        return components

    def _untrained(self, name: str) -> Any:
        """A copy of a modality before training, with all its parts."""
        return copy.deepcopy(self._start.modalities[name])

    def _classifier(self, name: str, config: TrainingConfig, widths: Sequence[int]) -> Oracle:
        oracle = _seeded(config.seed, lambda: Oracle(widths, self.material.postcards.size))
        return self._train(name, OracleTask(oracle, self.images, self.material.labels))

    def _diffuser(
        self, name: str, start: Diffuser, flows: Sequence[Flow], gradient_scales: Mapping[str, float] | None = None
    ) -> Diffuser:
        modalities: dict[str, Modality] = {"image": self.image}
        if any(flow.output == "text" for flow in flows):
            modalities["text"] = self.text
        self._require_same_latents(name, flows)
        scheduler: Any = self._start.scheduler
        task = DiffuserTask(
            _channels_last(copy.deepcopy(start).requires_grad_(True)),
            flows,
            self.latents,
            scheduler,
            min_snr=self.recipe.min_snr,
            gradient_scales=gradient_scales,
            multiples={"text": self.recipe.text_multiple},
            modalities=modalities,
        )
        return self._train(name, task)

    def _origin(self, part: str) -> str:
        """What latents or tokens come from; see `PostcardLatents`. Its stage must have been trained."""
        stage = {"image/latents": "kl", "text/latents": "optimus"}.get(part, "clip")
        cards = self.material.postcards
        return f"{stage} at {identity(self.folder / stage)}, {len(cards)} postcards of {cards.size}², seed {cards.seed}"

    def _require_same_latents(self, name: str, flows: Sequence[Flow]) -> None:
        """Raises ValueError if a stage was begun on other latents than there are now."""
        parts = {
            part: self._origin(part) for flow in flows for part in (f"{flow.output}/latents", f"{flow.context}/tokens")
        }
        file = self.folder / name / "latents.json"
        begun = json.loads(file.read_text()) if file.exists() and checkpoints(file.parent) else parts
        if changed := [f"{part} of {begun[part]}" for part, origin in parts.items() if begun[part] != origin]:
            raise ValueError(
                f"{file.parent} was begun on {', '.join(changed)}, which changed since then. Remove it, and the stages "
                "after it, to train them anew, or choose another --output."
            )
        if processes().is_main_process:
            write_whole(file, (json.dumps(parts, indent=2) + "\n").encode())

    def _train(self, name: str, task: Task[M]) -> M:
        if processes().is_main_process:
            record_run(self.folder, self.recipe, self.mixed_precision, self.start)
        config = getattr(self.recipe, name)
        trained: Any = Trainer(task, config, self.folder / name, name, self.mixed_precision).run()
        return trained.cpu().eval().requires_grad_(False)


def unit_scale(modality: Modality, items: Sequence[Any]) -> float:
    """The factor that gives the latents of the items unit variance."""
    return float(modality.config["scaling_factor"] / modality.encode(items).std())


def _seeded(seed: int, make: Callable[[], T]) -> T:
    """What `make` makes where PyTorch draws from this seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def _channels_last(model: Any) -> Any:
    return model.to(memory_format=torch.channels_last)
