"""The oracle: a small classifier, trained on rendered pictures only, that reads a postcard's attributes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from versatile_diffusion.worlds.postcards import ATTRIBUTES


class Oracle(ModelMixin, ConfigMixin):
    """Reads all attributes of pictures at once.

    Args:
        widths: channels after each halving of the picture.
        size: height and width of the pictures, in pixels.
    """

    config_name = "config.json"

    @register_to_config
    def __init__(self, widths: Sequence[int] = (32, 64, 96, 128), size: int = 64) -> None:
        super().__init__()
        channels = (3, *widths)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.GroupNorm(8, outer), nn.SiLU())
            for inner, outer in zip(channels, widths, strict=False)
        )
        side = size // 2 ** len(widths)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(widths[-1] * side * side, len(values)) for name, values in ATTRIBUTES.items()}
        )

    def features(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b c _ _"]]:
        """Features after each halving."""
        x = images * 2 - 1
        return [x := stage(x) for stage in self.stages]

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b values"]]:
        """Scores of each attribute's values, for pictures in [0, 1]."""
        last = self.features(images)[-1].flatten(1)
        return {name: head(last) for name, head in self.heads.items()}

    @torch.no_grad()
    def read(self, images: Float[Tensor, "b 3 h w"]) -> list[dict[str, str]]:
        """The attributes of each picture."""
        best = {name: scores.argmax(1).tolist() for name, scores in self(images).items()}
        return [{name: ATTRIBUTES[name][best[name][i]] for name in ATTRIBUTES} for i in range(len(images))]
