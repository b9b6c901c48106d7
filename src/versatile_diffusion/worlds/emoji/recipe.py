"""The recipe of the model of emoji: its sizes, its data and how each stage is trained."""

from __future__ import annotations

from dataclasses import field, replace
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from versatile_diffusion.diffuser import DiffuserConfig
from versatile_diffusion.model_presets import (
    ImagePreset,
    Preset,
    TextPreset,
    clip_text,
    clip_vision,
    kl_autoencoder,
    optimus,
    tiny,
)
from versatile_diffusion.training.loop.task import Amount, AtLeastOne, Count, TrainingConfig
from versatile_diffusion.training.settings.choices import OptimizerName
from versatile_diffusion.training.stages.model_recipe import CONFIG, ModelRecipe
from versatile_diffusion.worlds.emoji.world import EMOJI_STAGES, IMAGES, SEED

WORDS = 3191
"""Words and punctuation marks of captions of the whole data set; see `EmojiData.words`."""


def emoji(words: int = WORDS) -> Preset:
    """Returns the sizes of the model: images of 128×128 with latents of 16×8×8, texts with latents of 96.

    Args:
        words: of the vocabulary.
    """
    image = ImagePreset(
        kl_autoencoder(channels=(64, 96, 128), layers=1, size=128, latent_channels=16, groups=8, patch_size=4),
        clip_vision(width=128, layers=3, size=128, patch=16, projection=128, heads=4),
    )
    text = TextPreset(
        optimus(
            width=128,
            layers=2,
            pieces=words + 4,
            tokens=words + 4,
            latent=96,
            positions=(64, 64),
            heads=4,
            spread=0.09,
        ),
        clip_text(width=128, layers=2, tokens=words + 3, positions=32, projection=128, heads=4),
        positions=2,
        latent_dim=96,
    )
    diffuser = DiffuserConfig(32, (4, 4), (1, 1), (True, True), num_heads=4, context_scale=128**0.5)
    return Preset(diffuser, {"image": image, "text": text})


_by_muon = partial(TrainingConfig, optimizer=OptimizerName.MUON, checkpoint_every=100)
_diffuser = partial(_by_muon, batch_size=64, learning_rate=8e-3, weight_decay=0.05)


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class EmojiRecipe(ModelRecipe):
    """Everything that `vd train emoji` can be told; see `ModelRecipe` as well.

    Attributes:
        attribute_classifier: reads images, to measure with; it alone sees held-out cells.
        perceptual_network: reads images, for the autoencoder to learn with.
        kl_adversarial: the decoder of images, with the perceptual network and a discriminator.
    """

    preset: Preset = field(default_factory=emoji)
    images: AtLeastOne = IMAGES
    seed: Count = SEED
    attribute_classifier: TrainingConfig = _by_muon(8000, 64, 4e-3, seed=1)
    perceptual_network: TrainingConfig = _by_muon(2500, 64, 4e-3, seed=2)
    kl: TrainingConfig = _by_muon(6000, 8, 2.5e-3, seed=3, preview_every=1000)
    kl_adversarial: TrainingConfig = _by_muon(4000, 8, 5e-4, seed=9, preview_every=1000)
    clip: TrainingConfig = _by_muon(1800, 192, 2e-3, seed=4)
    optimus: TrainingConfig = _by_muon(8000, 64, 2e-3, seed=5)
    one_flow: TrainingConfig = _diffuser(300, final_rate=1.0, seed=6)
    two_flow: TrainingConfig = _diffuser(2500, final_rate=1.0, seed=7)
    four_flow: TrainingConfig = _diffuser(10_000, seed=8)
    prediction_type: Literal["epsilon", "v_prediction", "sample"] | None = "v_prediction"
    min_snr: Annotated[float | None, Field(strict=True, gt=0)] = None
    timestep_shift: Annotated[float, Field(strict=True, gt=0)] = 2.0
    text_to_image_multiple: AtLeastOne = 2
    text_multiple: AtLeastOne = 1
    kl_divergence_weight: Amount = 3e-4
    kl_edge_weight: Amount = 1.0
    kl_even_channels: Annotated[bool, Field(strict=True)] = True
    clip_position_spread: Amount = 50.0


def tiny_recipe(words: int) -> EmojiRecipe:
    """Returns all stages, a few steps each, on small networks: shows that everything runs, and learns nothing.

    Args:
        words: of the vocabulary of the data.
    """
    image = ImagePreset(
        kl_autoencoder(channels=(8, 16, 16), layers=1, size=128, groups=8, patch_size=4),
        clip_vision(width=16, layers=1, size=128, patch=32, projection=16, heads=2),
    )
    text = TextPreset(
        optimus(width=16, layers=1, pieces=words + 4, tokens=words + 4, latent=16, positions=(64, 64), heads=2),
        clip_text(width=16, layers=1, tokens=words + 3, positions=32, projection=16, heads=2),
        latent_dim=16,
    )
    step = TrainingConfig(2, 2, 1e-3, warmup_steps=1, checkpoint_every=1, preview_every=2, log_every=1)
    stages = {stage: replace(step, seed=EMOJI_STAGES.index(stage)) for stage in EMOJI_STAGES}
    whole = EmojiRecipe(preset=Preset(tiny().diffuser, {"image": image, "text": text}), images=16, validation_images=64)
    return replace(whole, **stages)
