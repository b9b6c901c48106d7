"""What a recipe of a whole model holds, whatever world it is for."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from versatile_diffusion.model_presets import Preset
from versatile_diffusion.training.loop.task import Amount, AtLeastOne, Count, TrainingConfig

CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
"""Of every recipe: settings that it does not know are refused."""


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class EncoderRecipe:
    """Sizes, data and training of the encoders of a model.

    Attributes:
        preset: sizes of the model.
        images: how many images it learns from.
        seed: of the data, and of random weights.
        kl: the autoencoder of images.
        clip: the two context encoders.
        optimus: the autoencoder of texts.
        prediction_type: what the diffuser predicts: the noise ("epsilon"), the velocity or the clean latent ("sample").
            None is what the model to go on from predicts, or the noise where there is none.
        optimus_kl_weight: see `OptimusTask`.
        kl_feature_weight: see `KLAutoencoderTask`; means something where there is a perceptual network.
        kl_divergence_weight: see `KLAutoencoderTask`.
        kl_edge_weight: see `KLAutoencoderTask`.
        kl_adversarial_weight: see `AdversarialAutoencoderTask`; means something where there is that stage.
        kl_even_channels: whether each channel of the latents of images has unit variance, or only all together.
        clip_position_spread: what the position embeddings of the image encoder are multiplied by before it learns; see
            `spread_positions`. Means something where it begins at random.
        image_guidance: guidance scale of images where the user does not say.
        text_guidance: guidance scale of texts where the user does not say.
        validation_images: images that were not learnt from, which each stage is measured on; at least 64.
    """

    preset: Preset
    images: AtLeastOne
    seed: Count
    kl: TrainingConfig
    clip: TrainingConfig
    optimus: TrainingConfig
    prediction_type: Literal["epsilon", "v_prediction", "sample"] | None = None
    optimus_kl_weight: Amount = 0.25
    kl_feature_weight: Amount = 0.5
    kl_divergence_weight: Amount = 1e-3
    kl_edge_weight: Amount = 0.0
    kl_adversarial_weight: Amount = 0.05
    kl_even_channels: Annotated[bool, Field(strict=True)] = False
    clip_position_spread: Amount = 1.0
    image_guidance: Amount = 3.0
    text_guidance: Amount = 3.0
    validation_images: Annotated[int, Field(strict=True, ge=64)] = 512


@dataclass(frozen=True, config=CONFIG, kw_only=True)
class ModelRecipe(EncoderRecipe):
    """The same of all stages of a model. A world's own recipe gives each a value, and may add stages.

    Attributes:
        one_flow: the diffuser, from image variation (paper, section 3.4).
        two_flow: the diffuser, from text to image as well.
        four_flow: the diffuser, from image to text and text variation as well.
        min_snr, timestep_shift: see `DiffuserTask`.
        text_to_image_multiple: samples of text to image for each of image variation, whose contexts say much more of an
            image, so that it is learnt sooner.
        text_multiple: samples of flows to text for each of image variation, which costs more.
    """

    one_flow: TrainingConfig
    two_flow: TrainingConfig
    four_flow: TrainingConfig
    min_snr: Annotated[float | None, Field(strict=True, gt=0)] = 5.0
    timestep_shift: Annotated[float, Field(strict=True, gt=0)] = 1.0
    text_to_image_multiple: AtLeastOne = 1
    text_multiple: AtLeastOne = 3
