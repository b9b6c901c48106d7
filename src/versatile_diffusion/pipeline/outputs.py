"""What a pipeline returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from versatile_diffusion.modalities.base import Modality

OUTPUT_TYPES = ("pil", "pt", "np", "latent")


@dataclass(frozen=True)
class Origin:
    """Where an output comes from.

    Attributes:
        arguments: of `generate`.
        items: in the batch that it was made in.
        num_outputs: of each item.
        row: its place among the outputs.
    """

    arguments: Mapping[str, Any]
    items: int
    num_outputs: int
    row: int


@dataclass
class Outputs:
    """What was made.

    Attributes:
        modality: of the items.
        items: pictures, texts or whatever the modality makes, those of the first item of the batch first; for
            output_type "latent" the latents.
        latents: (b *latent), in the diffuser's scale.
        per_context: how many outputs each item of the batch has.
        origins: of each output; none where several outputs were made into one.
    """

    modality: str
    items: Any
    latents: Tensor
    per_context: int = 1
    origins: tuple[Origin, ...] = ()

    @property
    def images(self) -> Any:
        """The pictures."""
        return self._of("image")

    @property
    def texts(self) -> Any:
        """The texts."""
        return self._of("text")

    @property
    def groups(self) -> list[Any]:
        """The outputs of each item of the batch."""
        return [self.items[i : i + self.per_context] for i in range(0, len(self.items), self.per_context)]

    def _of(self, modality: str) -> Any:
        if self.modality != modality:
            raise AttributeError(f"These outputs are of modality {self.modality!r}: read .items.")
        return self.items


def check_output_type(output_type: str) -> None:
    """Raises ValueError if there is no such output type."""
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}.")


def check_options(modality: Modality, options: Mapping[str, object]) -> None:
    """Raises TypeError or ValueError unless the modality's `decode` takes these options."""
    modality.decoding_options(options)
