"""What a pipeline returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from versatile_diffusion.pipeline.request import Request
    from versatile_diffusion.sampling.sampler import Remainder

OUTPUT_TYPES = ("pil", "pt", "np", "latent")


@dataclass(frozen=True)
class Origin:
    """Where an output comes from.

    Attributes:
        request: as it was resolved.
        items: in the batch that it was made in.
        row: its place among the outputs.
        remainders: where the batch became smaller.
    """

    request: Request
    items: int
    row: int
    remainders: tuple[Remainder, ...] = ()

    @property
    def item(self) -> int:
        """Which item of the batch it was made of."""
        return self.row // self.request.num_outputs

    @property
    def seed(self) -> int:
        """The seed of its generator.

        Raises:
            ValueError: if outputs shared a generator, so that none alone says how this one was drawn.
        """
        if self.request.seeds is None:
            raise ValueError("Outputs have records if each was made with a generator of its own.")
        return self.request.seeds[self.row]


@dataclass
class Outputs:
    """What was made.

    Attributes:
        modality: of the items, which are also there under its plural: `images`, `texts` and so on.
        items: images, texts or whatever the modality makes, those of the first item of the batch first, without those
            that a callback let go; for output_type "latent" the latents.
        latents: of all outputs (b *latent), in the diffuser's scale.
        per_context: how many outputs each item of the batch has.
        origins: of each of the items; none where several outputs were made into one.
    """

    modality: str
    items: Any
    latents: Tensor
    per_context: int = 1
    origins: tuple[Origin, ...] = ()

    @property
    def request(self) -> Request:
        """What was asked for, as it was resolved.

        Raises:
            AttributeError: if these outputs were put together from several.
        """
        requests = {id(origin.request): origin.request for origin in self.origins}
        if len(requests) != 1:
            raise AttributeError("These outputs were made by several requests: see their origins.")
        return next(iter(requests.values()))

    @property
    def groups(self) -> list[Any]:
        """The outputs of each item of the batch."""
        return [self.items[i : i + self.per_context] for i in range(0, len(self.items), self.per_context)]

    def __getattr__(self, name: str) -> Any:
        """The items under the plural of their modality's name, such as `sounds`."""
        if name.startswith("_") or not name.endswith("s"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        if name != f"{self.modality}s":
            raise AttributeError(f"These outputs are of modality {self.modality!r}: read .items.")
        return self.items


def check_output_type(output_type: str) -> None:
    """Raises ValueError if there is no such output type."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r:.80}.")
