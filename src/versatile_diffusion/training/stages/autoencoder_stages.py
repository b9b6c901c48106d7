"""What the stages of the autoencoder of images learn, as a recipe says."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from versatile_diffusion.modalities import ImageModality
from versatile_diffusion.modalities.parts import loaded
from versatile_diffusion.training.stages.model_recipe import EncoderRecipe
from versatile_diffusion.training.stages.preparation import channels_last, even_channels, seeded
from versatile_diffusion.training.tasks.adversarial_autoencoder import (
    AdversarialAutoencoderTask,
    AutoencoderWithDiscriminator,
    PatchDiscriminator,
)
from versatile_diffusion.training.tasks.kl_autoencoder import KLAutoencoderTask, PerceptualNetwork


def reconstruction_task(
    recipe: EncoderRecipe,
    autoencoder: AutoencoderKL,
    images: UInt8[ndarray, "n h w 3"],
    perceptual: PerceptualNetwork | None,
) -> KLAutoencoderTask:
    """Returns the stage in which an autoencoder learns to give images back."""
    weights = recipe.kl_feature_weight, recipe.kl_divergence_weight, recipe.kl_edge_weight
    return KLAutoencoderTask(autoencoder, images, perceptual, *weights)


def adversarial_task(
    recipe: EncoderRecipe,
    autoencoder: AutoencoderKL,
    images: UInt8[ndarray, "n h w 3"],
    perceptual: PerceptualNetwork | None,
    seed: int,
) -> AdversarialAutoencoderTask:
    """Returns the stage in which a discriminator, which begins at random, sharpens a trained decoder.

    The autoencoder is copied. Its encoder does not learn, so that latents stay what they were.
    """
    sharpened = channels_last(copy.deepcopy(autoencoder).requires_grad_(False))
    for learns in (sharpened.decoder, sharpened.post_quant_conv):
        if learns is not None:
            learns.requires_grad_(True)
    model = AutoencoderWithDiscriminator(sharpened, seeded(seed, PatchDiscriminator))
    errors = KLAutoencoderTask(sharpened, images, perceptual, recipe.kl_feature_weight, 0.0, recipe.kl_edge_weight)
    return AdversarialAutoencoderTask(model, errors, recipe.kl_adversarial_weight)


def with_even_channels(image: ImageModality, items: Sequence[Float[Tensor, "3 h w"]]) -> AutoencoderKL:
    """Returns a copy of the autoencoder of a modality whose channels are even on these images; see `even_channels`."""
    autoencoder = copy.deepcopy(loaded(image.autoencoder, "image autoencoder", "to images"))
    even_channels(autoencoder, image.encode(items) / image.config["scaling_factor"])
    return autoencoder
