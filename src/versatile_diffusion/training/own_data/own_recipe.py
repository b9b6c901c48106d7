"""How the encoders of a model from nothing are trained on a user's data, and how large they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from functools import partial

from pydantic.dataclasses import dataclass

from versatile_diffusion.modalities.image_spec import IMAGE, pixels_per_position
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.modalities.vocabulary import Tokenizers, present
from versatile_diffusion.model_presets import Preset, tiny
from versatile_diffusion.training.loop.task import AtLeastOne, Count, Preview, TrainingConfig
from versatile_diffusion.training.loop.trackers import Tracking
from versatile_diffusion.training.loop.trainer import OnPreview
from versatile_diffusion.training.own_data.named_presets import named_preset
from versatile_diffusion.training.own_data.own_encoders import OWN_ENCODERS
from versatile_diffusion.training.own_data.trainer_config import training_config
from versatile_diffusion.training.settings.stage_settings import StageSettings
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.stages.model_recipe import CONFIG, EncoderRecipe
from versatile_diffusion.training.stages.training_run import TrainingRun

CLIP_BATCH = 64
"""Pictures that captions are told apart by, if the settings do not say: of few there is little to learn."""

_STAGE = TrainingConfig(500, 8, 1e-3)


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class OwnRecipe(EncoderRecipe):
    """The encoders of a model from nothing; see `EncoderRecipe`.

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
    kl_even_channels: bool = True
    clip_position_spread: float = 50.0


@plain_dataclass(frozen=True)
class OwnRun(TrainingRun):
    """A run whose recipe comes from the settings that lie in its folder, and which has a page; see `TrainingRun`.

    Attributes:
        followed: the trackers, and what they are told of the whole run.
        shown: is called with the stage, the step and the preview whenever there is a new one.
    """

    followed: Tracking = field(default_factory=Tracking)
    shown: Callable[[str, int, Preview], None] | None = None

    @property
    def options(self) -> list[str]:
        """See `TrainingRun.options`: the settings hold everything."""
        return []

    def on_preview(self, stage: str) -> OnPreview | None:
        """See `TrainingRun.on_preview`: the page is written anew."""
        return None if self.shown is None else partial(self.shown, stage)

    def tracking(self, stage: str) -> Tracking:
        """See `TrainingRun.tracking`: as the settings say, each stage under a name of its own."""
        return replace(self.followed, title=f"{self.followed.title}-{stage.replace('_', '-')}")


def own_recipe(settings: TrainingSettings, preset: Preset, images: int) -> OwnRecipe:
    """Returns how all encoders are trained.

    Args:
        settings: of the run, with what each stage changes.
        preset: sizes of the model, with those of its vocabularies.
        images: that are learnt from.
    """
    return replace(OwnRecipe(preset=preset, images=images, seed=settings.seed), **own_configs(settings))


def own_configs(settings: TrainingSettings) -> dict[str, TrainingConfig]:
    """Returns how each stage is trained, in their order."""
    return {name: _config(settings, name, number) for number, name in enumerate(OWN_ENCODERS)}


def own_preset(settings: TrainingSettings) -> Preset:
    """Returns the sizes of a model from nothing.

    Raises:
        ValueError: if there is no such preset, it lacks an encoder that is to be trained or has one that is not
            trained here, or its pictures cannot be of the size that is asked for.
    """
    preset = named_preset(settings.start)
    if set(preset.modalities) != {IMAGE.name, TEXT.name} or not _has_all_encoders(preset):
        raise ValueError(
            "A model from nothing learns all four flows, with CLIP as its context encoders: this preset lacks some of "
            "it. Name models that have its encoders with --encoders, or take another preset."
        )
    if settings.size is None:
        return preset
    step = pixels_per_position(preset.image.autoencoder) * 2 ** (len(preset.diffuser.channel_mult) - 1)
    if settings.size % step or settings.size < step:
        raise ValueError(f"size must be a multiple of {step} for {settings.start:.80}, got {settings.size}.")
    autoencoder = {**preset.image.autoencoder, "sample_size": settings.size}
    return preset.with_modalities(image=replace(preset.image, autoencoder=autoencoder))


def with_vocabularies(preset: Preset, tokenizers: Tokenizers) -> Preset:
    """Returns the same sizes with vocabularies as large as those of some tokenizers."""
    text = preset.text
    assert text.autoencoder is not None  # see `own_preset`
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


def _has_all_encoders(preset: Preset) -> bool:
    text, image = preset.text, preset.image
    clip = image.context_encoder is not None and "model_type" not in text.context_encoder
    return clip and text.autoencoder is not None


def _config(settings: TrainingSettings, stage: str, number: int) -> TrainingConfig:
    own: StageSettings = getattr(settings, stage)
    usual = CLIP_BATCH if stage == "clip" else settings.batch_size
    return replace(
        training_config(settings),
        steps=stage_steps(settings, stage),
        batch_size=own.batch_size or usual,
        learning_rate=own.learning_rate or settings.learning_rate,
        seed=settings.seed + number,
    )
