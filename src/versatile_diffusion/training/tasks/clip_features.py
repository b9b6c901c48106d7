"""What a CLIP that is trained already sees in images, as features that an autoencoder of images learns by."""

from __future__ import annotations

import copy

from jaxtyping import Float
from torch import Tensor

from versatile_diffusion.modalities.clip import ClipImageEncoder
from versatile_diffusion.training.tasks.clip import as_clip_takes
from versatile_diffusion.training.tasks.kl_autoencoder import PerceptualNetwork

LEVELS = 4
"""Layers whose features are compared, at most; they lie evenly between the first and the last."""


class ClipFeatures(PerceptualNetwork):
    """The patches of a CLIP's vision transformer after some of its layers.

    LPIPS takes a network that learnt from photographs. Where there is none, as for a model from nothing, the context
    encoder knows what matters in the images of the data, since it tells their captions apart.

    Args:
        encoder: of images, trained; it is copied.
    """

    def __init__(self, encoder: ClipImageEncoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        last = len(encoder.model.vision_model.encoder.layers) - 1
        self.levels = {round(last * each / (LEVELS - 1)) for each in range(LEVELS)}

    def features(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c _ _"]]:
        """See `PerceptualNetwork.features`: a grid of patches for each layer."""
        vision, grid = self.encoder.model.vision_model, self.encoder.grid
        hidden: Tensor = vision.pre_layrnorm(vision.embeddings(as_clip_takes(images, self.encoder.image_size)))
        found: list[Tensor] = []
        for number, layer in enumerate(vision.encoder.layers):
            hidden = layer(hidden, attention_mask=None)
            if number in self.levels:
                found.append(_grid(hidden, grid))
        return found


def _grid(tokens: Float[Tensor, "b n c"], side: int) -> Float[Tensor, "b c side side"]:
    """The patches among tokens, where they lie in the image."""
    return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, side, side)
