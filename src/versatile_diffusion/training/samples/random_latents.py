"""Random latents and context tokens in the sizes of a model: what a step is measured with where no data is read."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.training.loop.batch_share import WHOLE, BatchShare


class RandomLatents:
    """`LatentData` for `DiffuserTask` of normal draws; every flow is taught.

    Args:
        modalities: by name; those of outputs say how large latents are, those of contexts how many tokens there are.
        size: pixels of the sides of a square, where size means something; the model's own by default.
    """

    def __init__(self, modalities: Mapping[str, Modality], size: int | None = None) -> None:
        self.modalities, self.size = modalities, size

    def draw(
        self, flow: Flow, count: int, generator: Generator, share: BatchShare = WHOLE
    ) -> tuple[Float[Tensor, "own *latent"], Float[Tensor, "own n d"]]:
        """See `LatentData.draw`."""
        made, given = self.modalities[flow.output], self.modalities[flow.context]
        size = self.size if made.size is not None else None
        latents = torch.randn(count, *made.latent_shape(size, size), generator=generator)
        return share.of(latents), share.of(torch.randn(count, *given.context_shape, generator=generator))

    def first(self, flow: Flow, count: int) -> tuple[Float[Tensor, "b *latent"], Float[Tensor, "b n d"]]:
        """See `LatentData.first`."""
        return self.draw(flow, count, Generator().manual_seed(0))

    def unconditional(self, flow: Flow) -> Float[Tensor, "1 n d"]:
        """See `LatentData.unconditional`."""
        return torch.zeros(1, *self.modalities[flow.context].context_shape)

    def teaches(self, flow: Flow) -> bool:
        """See `LatentData.teaches`."""
        return True
