"""CLAP (arXiv 2211.06687), read token by token, as CLIP is: sounds and texts in one space.

Every token is projected into that space, or stays as wide as the network is, and is divided by the norm of the token
that stands for the whole, so that this one, the first, has unit length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import ClapAudioConfig, ClapAudioModelWithProjection, ClapTextConfig, ClapTextModelWithProjection

from versatile_diffusion.modalities.mels import MelSpectrum, as_batch
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.modalities.text_encoders import CLAP_LENGTH, TextEncoder

SECONDS = 10
"""What CLAP hears of a sound where its configuration does not say: its first ten seconds; a shorter one is repeated."""
CLAP_SPECTRUM: Mapping[str, Any] = {
    "rate": 48000,
    "window": 1024,
    "hop": 480,
    "bands": 64,
    "lowest": 50.0,
    "highest": 14000.0,
}
"""Arguments of the `MelSpectrum` of the published models."""


class ClapSoundEncoder(nn.Module):
    """Sounds -> context tokens: one for the whole, then one for each patch that CLAP ends with.

    Args:
        config: a transformers ClapAudioConfig as a dict; "spectrum" holds arguments of `MelSpectrum`, "seconds" what is
            heard of a sound.
        projected: False leaves out the projection.
    """

    def __init__(self, config: Mapping[str, Any], projected: bool = True) -> None:
        super().__init__()
        self._projected = projected
        own = ("spectrum", "seconds", "model_type")
        self.sizes = ClapAudioConfig(**{name: value for name, value in config.items() if name not in own})
        self.spectrum = MelSpectrum(**{**CLAP_SPECTRUM, **config.get("spectrum", {})})
        self.seconds = float(config.get("seconds", SECONDS))
        self.model = ClapAudioModelWithProjection(self.sizes)

    @property
    def dim(self) -> int:
        """Width of the context tokens."""
        return int(self.sizes.projection_dim if self._projected else self.sizes.hidden_size)

    @property
    def tokens(self) -> int:
        """How many context tokens a sound has."""
        patch = self.sizes.patch_stride
        stride = int(patch if isinstance(patch, int) else patch[0])
        return 1 + (self.sizes.spec_size // stride // 2 ** (len(self.sizes.depths) - 1)) ** 2

    def features(self, items: Sequence[Sound]) -> Float[Tensor, "b 1 t bands"]:
        """Returns what CLAP hears of sounds, as ClapFeatureExtractor does, but always of their beginning."""
        return self.spectrum.decibels(as_batch([self._heard(item) for item in items]))[:, None]

    def forward(self, features: Float[Tensor, "b 1 t bands"]) -> Float[Tensor, "b n d"]:
        longer = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)  # of models with fusion
        channels = 4 if self.sizes.enable_fusion else 1
        encoder = cast(nn.Module, self.model.audio_model)
        found = encoder(input_features=features.expand(-1, channels, -1, -1), is_longer=longer)
        patches = found.last_hidden_state.flatten(2).transpose(1, 2)
        tokens = torch.cat([found.pooler_output[:, None], patches], dim=1)
        return _whole_first(self.model.audio_projection(tokens) if self._projected else tokens)

    def _heard(self, item: Sound) -> np.ndarray:
        count = round(self.seconds * self.spectrum.rate)
        (wave,) = item.resampled(self.spectrum.rate).with_channels(1).samples[:, :count]
        repeated = np.tile(wave, count // len(wave))
        return np.pad(repeated, (0, count - len(repeated)))


class ClapTextEncoder(TextEncoder):
    """Texts as token ids -> context tokens. The encoder does not see what pads a text, whose tokens are zeros.

    Args:
        config: a transformers ClapTextConfig as a dict; "context_length" is what texts are padded to.
        projected: False leaves out the projection.
    """

    tokenizer = "clap"

    def __init__(self, config: Mapping[str, Any], projected: bool = True) -> None:
        super().__init__()
        self._projected = projected
        values = {name: value for name, value in config.items() if name not in ("context_length", "model_type")}
        self._sizes, self._length = ClapTextConfig(**values), int(config.get("context_length", CLAP_LENGTH))
        self.model = ClapTextModelWithProjection(self._sizes)

    @property
    def dim(self) -> int:
        """See `TextEncoder.dim`."""
        return int(self._sizes.projection_dim if self._projected else self._sizes.hidden_size)

    @property
    def max_length(self) -> int:
        """See `TextEncoder.max_length`."""
        return self._length

    def forward(self, input_ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        there = input_ids.ne(int(self._sizes.pad_token_id or 0))
        text_model, project = cast(Any, self.model.text_model), cast(Any, self.model.text_projection)
        found = text_model(input_ids=input_ids, attention_mask=there.long()).last_hidden_state
        pooled = text_model.pooler.activation(text_model.pooler.dense(found))  # of the first token alone; here of each
        return _whole_first(project(pooled) if self._projected else pooled) * there[..., None]


def _whole_first(tokens: Float[Tensor, "b n d"]) -> Float[Tensor, "b n d"]:
    """Tokens divided by the norm of the first, which stands for the whole."""
    return tokens / tokens[:, :1].square().sum(dim=-1, keepdim=True).sqrt()
