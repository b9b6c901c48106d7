"""What a modality must bring, stated once.

A modality knows its data, its latents, its context tokens and the layers that denoise its latents. It knows nothing of
other modalities, of sampling or of the pipeline. What is known of it before its model is loaded is its `ModalitySpec`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic

import numpy as np
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from typing_extensions import TypeVar

from versatile_diffusion.diffuser.data_layers import DataLayers
from versatile_diffusion.diffuser.plan import Plan
from versatile_diffusion.modalities.size_range import SizeRange
from versatile_diffusion.modalities.spec import DecodingOptions, ModalitySpec

OFFICIAL_GUIDANCE_SCALE = 7.5

Item = TypeVar("Item", default=Any)  # where the modality is found by name, nobody knows what its items are
"""What one item of data is, after `read`."""

Presented = Sequence[object] | Tensor | NDArray[np.generic]
"""Items as the user wants them, one row or entry for each."""


class Modality(ModelMixin, ConfigMixin, ABC, Generic[Item]):
    """An autoencoder (data ↔ latent), a context encoder (data → tokens) and data layers.

    A subclass states its `spec`, registers its configuration (`@register_to_config`, JSON values only), and holds its
    autoencoder and its context encoder as submodules of these names:

        autoencoder        only needed where this modality is made, or is a start
        context_encoder    only needed where this modality is a context

    Data that comes from outside goes through `read` first, once; the other methods take what `read` returns.

    Attributes:
        spec: what is known of the modality without its model.
        name: the same as the spec's.
    """

    config_name = "config.json"
    spec: ClassVar[ModalitySpec]
    name: ClassVar[str]

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "spec" in cls.__dict__:
            cls.name = cls.spec.name

    @property
    def guidance_scale(self) -> float:
        """How much outputs are guided where the user does not say: what the configuration says, or the official 7.5."""
        return float(self.config.get("guidance_scale", OFFICIAL_GUIDANCE_SCALE))

    @property
    @abstractmethod
    def context_dim(self) -> int:
        """Width of the context tokens."""

    @property
    def context_lengths(self) -> tuple[int, ...]:
        """Numbers of context tokens that an item may have, the usual one first; empty where any number will do."""
        return ()

    @property
    def context_shape(self) -> tuple[int, int]:
        """Tokens and width of the context of one item.

        Raises:
            ValueError: if items may have any number of tokens.
        """
        if not self.context_lengths:
            raise ValueError(f"A {self.name} context may have any number of tokens: there is no one shape.")
        return self.context_lengths[0], self.context_dim

    @property
    def packable(self) -> tuple[nn.Module, ...]:
        """Parts that are quicker on the CPU once their weights are laid out for it."""
        return ()

    @abstractmethod
    def data_layers(self, plan: Plan) -> DataLayers:
        """Returns the layers that denoise this modality's latents."""

    @abstractmethod
    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, ...]:
        """Returns the shape of one latent, for outputs of that size in pixels where that means something.

        Raises:
            ValueError: if there are no latents of that size.
        """

    def extent(
        self, height: int | None, width: int | None, decoding: Mapping[str, object]
    ) -> tuple[int | None, int | None]:
        """Returns height and width of outputs, as `latent_shape` and `fit` take them, from what the user asked for.

        A modality whose size is not said in pixels has an option of decoding for it, such as seconds.

        Args:
            height, width: in pixels, that the user asked for.
            decoding: options of `decode`, which are checked.

        Raises:
            ValueError: if there are no outputs of that size.
        """
        return height, width

    @property
    def size(self) -> int | None:
        """Height and width, in pixels, of outputs where the user gives none; None where size means nothing."""
        return None

    @property
    def sizes(self) -> SizeRange | None:
        """Sizes of outputs that the model makes well; None where size means nothing."""
        return None if self.size is None else SizeRange.of(self.size)

    @abstractmethod
    def read(self, data: object) -> list[Item]:
        """Checks one item of data or a list of them, and returns the items in one form.

        Raises:
            TypeError, ValueError: if an item is not of this modality; the message says what is expected.
        """

    def fit(self, items: Sequence[Item], height: int | None = None, width: int | None = None) -> Sequence[Item]:
        """Returns the items in the size of such outputs, so that their latents have `latent_shape(height, width)`.

        Where size means nothing, they stay as they are.
        """
        return items

    def crop(self, item: Item, multiple: int, size: int | None = None) -> Item:
        """Returns an item in one of the few sizes that training takes, so that latents fit into batches.

        What sticks out is cut off; nothing is stretched. Where size means nothing, the item stays as it is.

        Args:
            item: that `read` returned.
            multiple: positions that the sides of its latent must be a multiple of.
            size: pixels of the sides of a square of the same area; the model's own by default.
        """
        return item

    def context_view(self, item: Item) -> Item:
        """Returns all that the context encoder takes in of an item, which has the same tokens; it may be smaller."""
        return item

    def latent_shape_of(self, item: Item) -> tuple[int, ...]:
        """Returns the shape of the latent of an item that `crop` returned."""
        return self.latent_shape()

    @abstractmethod
    def encode(self, items: Sequence[Item]) -> Float[Tensor, "b *latent"]:
        """Returns the latents of the items, in the scale that the diffuser works in: the mode of the posterior."""

    @abstractmethod
    def decode(self, latents: Float[Tensor, "b *latent"], generators: Sequence[Generator] | None = None) -> list[Item]:
        """Returns one item of data for each latent. Where decoding draws, it draws from the latent's own generator.

        A subclass adds the fields of its spec's `decoding` as keyword options, all with a default.
        """

    def decoding_options(self, options: Mapping[str, object]) -> DecodingOptions:
        """Returns the options of `decode` that users gave, checked. `DecodingOptions.given` is what `decode` takes.

        Raises:
            TypeError: if there is no option of a name; the message says which there are.
            ValueError: if a value is out of range.
        """
        return self.spec.decoding_options(options)

    def check_decoding(self, count: int, **options: object) -> None:
        """Finds before sampling, which takes long, what `decode` would find wrong with options that are checked.

        Args:
            count: items that will be decoded.
            options: of `decode`.

        Raises:
            ValueError: if one is not usable for so many items; the message says what would be.
        """

    @abstractmethod
    def embed(self, items: Sequence[Item], masks: object = None) -> Float[Tensor, "b n d"]:
        """Returns the context tokens of the items. Masks, where the modality has them, keep what they mark with 1."""

    def shared_vectors(self, items: Sequence[Item]) -> Float[Tensor, "b d"] | None:
        """Returns a vector of unit length for each item, whose cosine tells how well items of modalities agree.

        None where the context encoder has none, since it does not share its space with another modality's.
        """
        return None

    @abstractmethod
    def unconditional(self, output: str) -> Float[Tensor, "1 n d"]:
        """Returns the official context that stands for no condition, when `output` is being made."""

    @abstractmethod
    def present(self, items: Sequence[Item], output_type: str) -> Presented:
        """Returns the decoded items as the user wants them: "pil", "pt" or "np", where that means something."""

    def focus(self, tokens: Float[Tensor, "b n d"], level: float) -> Float[Tensor, "b n d"]:
        """Returns the context tokens with more of their semantics (level < 0.5) or of their style (level > 0.5).

        Raises:
            ValueError: if the modality has no such distinction.
        """
        raise ValueError(f"A {self.name} context has no focus: leave it at 0.5.")

    def save_assets(self, folder: Path) -> None:
        """Saves what is neither weight nor configuration, such as a vocabulary, beside them."""

    def load_assets(self, folder: Path) -> None:
        """Loads what `save_assets` saved."""

    def tie_weights(self) -> None:
        """Ties parameters that are stored once, after loading."""
