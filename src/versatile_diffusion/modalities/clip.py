"""The context encoders of the paper: CLIP (arXiv 2103.00020), read token by token.

Both project every token into the space that images and texts share, and divide by the norm of the token that stands
for the whole, so that this one has unit length.
"""

from __future__ import annotations

from typing import Any, cast

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from versatile_diffusion.modalities.text_encoders import TextEncoder


class ClipTextEncoder(TextEncoder):
    """Texts as token ids -> context tokens.

    Args:
        config: a transformers CLIPTextConfig as a dict.
        projected: False leaves out projection and division, as Stable Diffusion v1 does.
    """

    tokenizer = "clip"

    def __init__(self, config: dict[str, Any], projected: bool = True) -> None:
        super().__init__()
        self._sizes = CLIPTextConfig(**config)
        self.model = (CLIPTextModelWithProjection if projected else CLIPTextModel)(self._sizes)

    @property
    def dim(self) -> int:
        """Width of the context tokens."""
        if isinstance(self.model, CLIPTextModelWithProjection):
            return self.model.text_projection.out_features
        return self._sizes.hidden_size

    @property
    def max_length(self) -> int:
        """Most tokens of a text, the first and last special ones included."""
        return self._sizes.max_position_embeddings

    def forward(self, input_ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        outputs = self.model(input_ids=input_ids)
        if not isinstance(self.model, CLIPTextModelWithProjection):
            return outputs.last_hidden_state
        tokens = self.model.text_projection(outputs.last_hidden_state)
        return tokens / outputs.text_embeds.norm(dim=-1, keepdim=True)[:, None]

    def summaries(self, input_ids: Int[Tensor, "b n"]) -> Float[Tensor, "b d"] | None:
        """Returns the tokens that stand for the whole texts, of unit length; None without projection."""
        if not isinstance(self.model, CLIPTextModelWithProjection):
            return None
        return normalize(self.model(input_ids=input_ids).text_embeds, dim=-1)


class ClipImageEncoder(nn.Module):
    """Images -> context tokens: the class token, then one token a patch, row by row.

    Args:
        config: a transformers CLIPVisionConfig as a dict.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.model = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))

    @property
    def dim(self) -> int:
        """Width of the context tokens."""
        return self.model.visual_projection.out_features

    @property
    def image_size(self) -> int:
        """Height and width of the images it takes, in pixels."""
        return cast(int, self.model.config.image_size)

    @property
    def grid(self) -> int:
        """How many patches make a row, and a column."""
        return self.image_size // cast(int, self.model.config.patch_size)

    def forward(
        self, pixel_values: Float[Tensor, "b 3 s s"], token_weights: Float[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b n d"]:
        """Encodes normalised images.

        Token weights mask an image: they multiply what goes into the transformer and what comes out (an official
        quirk that the paper does not describe).
        """
        vision = self.model.vision_model
        hidden = vision.embeddings(pixel_values)
        if token_weights is not None:
            hidden = hidden * token_weights[..., None]
        hidden = vision.encoder(inputs_embeds=vision.pre_layrnorm(hidden)).last_hidden_state
        tokens = self.model.visual_projection(vision.post_layernorm(hidden))
        tokens = tokens / tokens[:, :1].norm(dim=-1, keepdim=True)
        return tokens if token_weights is None else tokens * token_weights[..., None]
