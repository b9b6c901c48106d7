"""How all stages of a model from nothing are trained on a user's data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from functools import partial
from pathlib import Path

from pydantic.dataclasses import dataclass

from versatile_diffusion.modalities.vocabulary import Tokenizers, present
from versatile_diffusion.model_presets import Preset, tiny
from versatile_diffusion.training.loop.task import AtLeastOne, Count, Preview, TrainingConfig
from versatile_diffusion.training.loop.trainer import OnPreview
from versatile_diffusion.training.settings.stage_settings import StageSettings
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.stages.model_recipe import CONFIG, ModelRecipe
from versatile_diffusion.training.stages.names import ADVERSARIAL, STAGES
from versatile_diffusion.training.stages.training_run import TrainingRun

OWN_STAGES = (STAGES[0], ADVERSARIAL, *STAGES[1:])
"""All stages, in their order."""

CLIP_BATCH = 64
"""Pictures that captions are told apart by, if the settings do not say: of few there is little to learn."""

_STAGE = TrainingConfig(500, 8, 1e-3)


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class OwnRecipe(ModelRecipe):
    """All stages of a model from nothing; see `ModelRecipe`.

    Attributes:
        kl_adversarial: the autoencoder of images with a discriminator.
    """

    preset: Preset = field(default_factory=tiny)
    images: AtLeastOne = 1
    seed: Count = 0
    kl: TrainingConfig = _STAGE
    kl_adversarial: TrainingConfig = _STAGE
    clip: TrainingConfig = _STAGE
    optimus: TrainingConfig = _STAGE
    one_flow: TrainingConfig = _STAGE
    two_flow: TrainingConfig = _STAGE
    four_flow: TrainingConfig = _STAGE


@plain_dataclass(frozen=True)
class OwnRun(TrainingRun):
    """A run whose recipe comes from the settings that lie in its folder, and which has a page; see `TrainingRun`.

    Attributes:
        shown: is called with the stage, the step and the preview whenever there is a new one.
    """

    shown: Callable[[str, int, Preview], None] | None = None

    @property
    def options(self) -> list[str]:
        """See `TrainingRun.options`: the settings hold everything."""
        return ["--output", str(self.folder)]

    def on_preview(self, stage: str) -> OnPreview | None:
        """See `TrainingRun.on_preview`: the page is written anew."""
        return None if self.shown is None else partial(self.shown, stage)


def own_run(settings: TrainingSettings, preset: Preset, images: int, folder: Path, mixed_precision: str) -> OwnRun:
    """Returns the run of all stages.

    Args:
        settings: of all stages, with what each of them changes.
        preset: sizes of the model, with those of its vocabularies.
        images: that are learnt from.
        folder: of the run.
        mixed_precision: see `TrainingRun`.
    """
    recipe = OwnRecipe(
        preset=preset,
        images=images,
        seed=settings.seed,
        min_snr=settings.min_snr,
        prediction_type=None if settings.prediction_type is None else settings.prediction_type.value,
        kl_even_channels=True,
    )
    recipe = replace(recipe, **{name: _config(settings, name, number) for number, name in enumerate(OWN_STAGES)})
    return OwnRun(folder, recipe, ("train", str(folder / "run.yaml")), mixed_precision)


def with_vocabularies(preset: Preset, tokenizers: Tokenizers) -> Preset:
    """Returns the same sizes with vocabularies as large as those of some tokenizers.

    Raises:
        ValueError: if the preset lacks an encoder that is to be trained, or has one that is not trained here.
    """
    text, image = preset.text, preset.image
    if text.autoencoder is None or image.context_encoder is None or "model_type" in text.context_encoder:
        raise ValueError(
            "A model from nothing learns all four flows, with CLIP as its context encoders: this preset lacks some of "
            "it. Name models that have its encoders with --encoders, or take another preset."
        )
    clip, bert, gpt2 = (len(present(each)) for each in (tokenizers.clip, tokenizers.bert, tokenizers.gpt2))
    ends = {"bos_token_id": clip - 2, "eos_token_id": clip - 1, "pad_token_id": clip - 1}
    writes = {"vocab_size": gpt2, "pad_token_id": gpt2 - 3, "bos_token_id": gpt2 - 2, "eos_token_id": gpt2 - 1}
    autoencoder = {
        **text.autoencoder,
        "bert": {**text.autoencoder["bert"], "vocab_size": bert},
        "gpt2": {**text.autoencoder["gpt2"], **writes},
    }
    context = {**text.context_encoder, "vocab_size": clip, **ends}
    return preset.with_modalities(text=replace(text, autoencoder=autoencoder, context_encoder=context))


def stage_steps(settings: TrainingSettings, stage: str) -> int:
    """Returns how many steps a stage takes."""
    own: StageSettings = getattr(settings, stage)
    return own.steps or settings.steps


def _config(settings: TrainingSettings, stage: str, number: int) -> TrainingConfig:
    own: StageSettings = getattr(settings, stage)
    usual = CLIP_BATCH if stage == "clip" else settings.batch_size
    return TrainingConfig(
        stage_steps(settings, stage),
        own.batch_size or usual,
        own.learning_rate or settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.weight_decay,
        clip_norm=settings.clip_norm,
        ema_decay=settings.ema_decay,
        checkpoint_every=settings.checkpoint_every,
        preview_every=settings.sheet_every,
        log_every=min(10, settings.sheet_every),
        optimizer=settings.optimizer,
        accumulate=settings.accumulate,
        average=settings.ema,
        seed=settings.seed + number,
    )
