"""Sizes of models: functions that return frozen dataclasses, and what builds a model of random weights from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from versatile_diffusion.checkpoints.components import Components, Wanted, official_scheduler
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.modalities.image_spec import pixels_per_position
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.text_encoders import LENGTH, T5

Config = dict[str, Any]  # of modules of other libraries, whose options are theirs
"""Arguments of a module, as JSON holds them."""


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


def vd_four_flow() -> Preset:
    """Returns the official model (paper, section 4): 2,566,318,852 parameters in the diffuser."""
    return Preset(
        DiffuserConfig(),
        {
            "image": ImagePreset(
                kl_autoencoder(channels=(128, 256, 512, 512), layers=2, size=512),
                clip_vision(width=1024, layers=24, size=224, patch=14, projection=768),
            ),
            "text": TextPreset(
                optimus(width=768, layers=12, pieces=28996, tokens=50260, latent=768, positions=(512, 1024)),
                clip_text(width=768, layers=12, tokens=49408, positions=77, projection=768),
            ),
        },
    )


def stable_diffusion_v1() -> Preset:
    """Stable Diffusion v1: the paper's baseline, and where its training starts. Text to image only."""
    full = vd_four_flow()
    return Preset(
        full.diffuser,
        {
            "image": ImagePreset(full.image.autoencoder, context_encoder=None),
            "text": TextPreset(autoencoder=None, context_encoder=full.text.context_encoder, projected=False),
        },
    )


def tiny() -> Preset:
    """Returns the smallest model that has everything, for tests: images of 32×32."""
    return Preset(
        DiffuserConfig(32, (1, 2), (1, 1), (True, False), num_heads=4),
        {
            "image": ImagePreset(
                kl_autoencoder(channels=(32, 32), layers=1, size=32),
                clip_vision(width=32, layers=1, size=28, patch=14, projection=24, heads=4),
            ),
            "text": TextPreset(
                optimus(width=32, layers=2, pieces=99, tokens=99, latent=48, positions=(96, 48), heads=4),
                clip_text(width=32, layers=1, tokens=99, positions=16, projection=24, heads=4),
                latent_dim=48,
            ),
        },
    )


def kl_autoencoder(
    channels: Sequence[int],
    layers: int,
    size: int,
    latent_channels: int = 4,
    groups: int = 32,
    patch_size: int = 1,
) -> Config:
    """Returns the arguments of AutoencoderKL: images of `size`, halved at every level but the first.

    With a `patch_size` above 1 they are those of `PatchAutoencoderKL`.
    """
    levels = len(channels)
    patches = {"patch_size": patch_size} if patch_size > 1 else {}
    return {
        **patches,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": list(channels),
        "layers_per_block": layers,
        "latent_channels": latent_channels,
        "norm_num_groups": groups,
        "sample_size": size,
    }


def clip_vision(width: int, layers: int, size: int, patch: int, projection: int, heads: int | None = None) -> Config:
    """Returns a CLIPVisionConfig. Heads are 64 wide unless told otherwise, as in every official CLIP."""
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads or width // 64,
        "image_size": size,
        "patch_size": patch,
        "projection_dim": projection,
    }


def clip_text(
    width: int, layers: int, tokens: int, positions: int, projection: int, heads: int | None = None
) -> Config:
    """Returns a CLIPTextConfig. The last token of the vocabulary ends a text, the one before begins it."""
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads or width // 64,
        "vocab_size": tokens,
        "max_position_embeddings": positions,
        "projection_dim": projection,
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
        "pad_token_id": tokens - 1,
    }


def t5_text(width: int, layers: int, tokens: int, heads: int | None = None, length: int = LENGTH) -> Config:
    """Returns a T5Config of version 1.1, as Imagen has it: texts of `length` tokens, without a limit of its own."""
    heads = heads or width // 64
    return {
        "model_type": T5,
        "d_model": width,
        "d_kv": width // heads,
        "d_ff": 4 * width,
        "num_layers": layers,
        "num_heads": heads,
        "vocab_size": tokens,
        "feed_forward_proj": "gated-gelu",
        "context_length": length,
    }


def optimus(
    width: int,
    layers: int,
    pieces: int,
    tokens: int,
    latent: int,
    positions: tuple[int, int],
    heads: int | None = None,
    spread: float = 0.02,
) -> Config:
    """Returns the arguments of `Optimus`: BERT for `pieces`, GPT-2 for `tokens`, whose last one ends a text.

    `spread` is the standard deviation of random weights: narrow models learn nothing from each other's layers unless it
    is near 1 / √width.
    """
    heads = heads or width // 64
    bert = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": pieces,
        "initializer_range": spread,
        "max_position_embeddings": positions[0],
    }
    gpt2 = {
        "n_embd": width,
        "n_layer": layers,
        "n_head": heads,
        "vocab_size": tokens,
        "initializer_range": spread,
        "n_positions": positions[1],
        "pad_token_id": tokens - 3,
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
    }
    return {"bert": bert, "gpt2": gpt2, "latent_dim": latent}
