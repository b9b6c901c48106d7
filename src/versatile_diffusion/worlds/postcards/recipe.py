"""The recipe of the bundled model of postcards: its sizes, its data and how each stage is trained."""

from __future__ import annotations

from dataclasses import field, replace

from pydantic.dataclasses import dataclass

from versatile_diffusion._moved import former_names
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
from versatile_diffusion.training.loop.task import AtLeastOne, Count, TrainingConfig
from versatile_diffusion.training.stages.model_recipe import CONFIG, ModelRecipe
from versatile_diffusion.worlds.postcards.world import POSTCARDS_STAGES

__getattr__ = former_names(
    __name__,
    {
        "Recipe": "versatile_diffusion.worlds.postcards.recipe:PostcardsRecipe",
        "STAGES": "versatile_diffusion.worlds.postcards.world:POSTCARDS_STAGES",
        "with_settings": "versatile_diffusion.training.settings.config:with_settings",
    },
)


def postcards() -> Preset:
    """Returns the sizes of a model: images of 64×64 and their captions, latents of 8×8×8 and 64, 20 M parameters.

    The bundled model is the same, but has learnt from contexts that were not scaled.
    """
    return Preset(
        DiffuserConfig(32, (2, 3, 4), (1, 1, 1), (True, True, True), num_heads=4, context_scale=96**0.5),
        {
            "image": ImagePreset(
                kl_autoencoder(channels=(16, 32, 64, 96), layers=1, size=64, latent_channels=8, groups=8),
                clip_vision(width=96, layers=3, size=64, patch=8, projection=96, heads=4),
            ),
            "text": TextPreset(
                optimus(
                    width=128, layers=2, pieces=109, tokens=109, latent=64, positions=(64, 64), heads=4, spread=0.09
                ),
                clip_text(width=96, layers=2, tokens=108, positions=40, projection=96, heads=4),
                latent_dim=64,
            ),
        },
    )


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class PostcardsRecipe(ModelRecipe):
    """Everything that `vd train postcards` can be told; see `ModelRecipe` as well.

    Attributes:
        attribute_classifier: reads images, to measure with.
        perceptual_network: reads images, for the autoencoder to learn with.
    """

    preset: Preset = field(default_factory=postcards)
    images: AtLeastOne = 24_000
    seed: Count = 1000
    attribute_classifier: TrainingConfig = TrainingConfig(1600, 64, 2e-3, seed=1, ema_decay=0.99, checkpoint_every=400)
    perceptual_network: TrainingConfig = TrainingConfig(1600, 64, 2e-3, seed=2, ema_decay=0.99, checkpoint_every=400)
    kl: TrainingConfig = TrainingConfig(4000, 32, 1.5e-3, seed=3, checkpoint_every=100)
    clip: TrainingConfig = TrainingConfig(2000, 192, 1e-3, seed=4)
    optimus: TrainingConfig = TrainingConfig(10_000, 64, 1e-3, seed=5)
    one_flow: TrainingConfig = TrainingConfig(1000, 64, 1e-3, final_rate=1.0, seed=6)
    two_flow: TrainingConfig = TrainingConfig(1500, 64, 1e-3, final_rate=1.0, seed=7)
    four_flow: TrainingConfig = TrainingConfig(6000, 64, 1e-3, seed=8)


def tiny_recipe() -> PostcardsRecipe:
    """Returns all stages, a few steps each, on images of 32×32: shows that everything runs, and learns nothing."""
    image = ImagePreset(
        kl_autoencoder(channels=(8, 16), layers=1, size=32, groups=8),
        clip_vision(width=16, layers=1, size=32, patch=16, projection=16, heads=2),
    )
    text = TextPreset(
        optimus(width=16, layers=1, pieces=109, tokens=109, latent=16, positions=(64, 64), heads=2),
        clip_text(width=16, layers=1, tokens=108, positions=40, projection=16, heads=2),
        latent_dim=16,
    )
    stages = {
        stage: TrainingConfig(
            6,
            4,
            1e-3,
            warmup_steps=2,
            checkpoint_every=2,
            preview_every=6,
            log_every=2,
            seed=POSTCARDS_STAGES.index(stage),
        )
        for stage in POSTCARDS_STAGES
    }
    whole = PostcardsRecipe(
        preset=Preset(tiny().diffuser, {"image": image, "text": text}), images=16, validation_images=64
    )
    return replace(whole, **stages)
