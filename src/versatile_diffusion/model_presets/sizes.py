"""Sizes of models as frozen dataclasses, and what builds a model of random weights from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from versatile_diffusion.checkpoints.components import Components, Wanted, official_scheduler
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.modalities.image_spec import pixels_per_position
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.model_presets.configs import Config


@dataclass(frozen=True)
class ModalityPreset:
    """Arguments of a modality's class. A subclass adds those that only its modality has.

    Attributes:
        autoencoder: its arguments; None leaves it out, and with it the flows that make this modality.
        context_encoder: its arguments; None leaves it out, and with it the flows from this modality.
    """

    autoencoder: Config | None
    context_encoder: Config | None


P = TypeVar("P", bound=ModalityPreset)


@dataclass(frozen=True)
class ImagePreset(ModalityPreset):
    """Arguments of `ImageModality`."""

    autoencoder: Config
    context_encoder: Config | None
    scaling_factor: float = 0.18215

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the latent of an image of the size of training."""
        side = self.autoencoder["sample_size"] // pixels_per_position(self.autoencoder)
        return self.autoencoder["latent_channels"], side, side


@dataclass(frozen=True)
class TextPreset(ModalityPreset):
    """Arguments of `TextModality`."""

    autoencoder: Config | None
    context_encoder: Config
    positions: int = 4
    latent_dim: int = 768
    projected: bool = True


@dataclass(frozen=True)
class SoundPreset(ModalityPreset):
    """Arguments of `SoundModality`."""

    scaling_factor: float = 0.9227914214134216
    seconds: float = 10.24
    projected: bool = False


@dataclass(frozen=True)
class Preset:
    """Sizes of a whole model.

    Attributes:
        diffuser: of the network.
        modalities: of each modality, by its name.
    """

    diffuser: DiffuserConfig
    modalities: Mapping[str, ModalityPreset]

    @property
    def image(self) -> ImagePreset:
        """The sizes of images, in a preset that has them."""
        return self._of_kind("image", ImagePreset)

    @property
    def text(self) -> TextPreset:
        """The sizes of texts, in a preset that has them."""
        return self._of_kind("text", TextPreset)

    @property
    def sound(self) -> SoundPreset:
        """The sizes of sounds, in a preset that has them."""
        return self._of_kind("sound", SoundPreset)

    def with_modalities(self, **parts: ModalityPreset) -> Preset:
        """Returns the same sizes with other modalities under these names, or with more of them."""
        return replace(self, modalities={**self.modalities, **parts})

    def _of_kind(self, name: str, kind: type[P]) -> P:
        found = self.modalities.get(name)
        if not isinstance(found, kind):
            raise AttributeError(f"This preset has {', '.join(self.modalities)}: no {name} of {kind.__name__}.")
        return found


def build(preset: Preset, flows: Sequence[Flow] | None = None) -> Components:
    """Returns a model of random weights, with what `flows` need (by default all that the preset has).

    Its modalities have no assets yet, such as the tokenizers of texts.
    """
    wanted = preset_wanted(preset, flows)
    modalities: dict[str, Modality] = {}
    for name in wanted.modalities:
        config = wanted.parts(name, vars(preset.modalities[name]))
        modalities[name] = modality_spec(name).load()(**config).eval()
    data_layers = {name: modalities[name].data_layers for name in wanted.outputs}
    context_dims = {name: modalities[name].context_dim for name in wanted.contexts}
    return Components(Diffuser(preset.diffuser, data_layers, context_dims).eval(), modalities, official_scheduler())


def preset_wanted(preset: Preset, flows: Sequence[Flow] | None) -> Wanted:
    """Returns what `flows` need of a preset."""
    outputs = [name for name, part in preset.modalities.items() if part.autoencoder is not None]
    contexts = [name for name, part in preset.modalities.items() if part.context_encoder is not None]
    return Wanted.of(flows, outputs, contexts, "The preset")
