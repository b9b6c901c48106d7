"""The context encoders of texts: CLIP as in the paper, T5 as in Imagen, or CLAP as in AudioLDM (arXiv 2301.12503).

Which one it is, its configuration says, as transformers' own do: "model_type" is "t5", "clap_text_model", or CLIP's
where it is left out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, T5Config, T5EncoderModel

T5 = "t5"
"""The `model_type` of T5."""

CLAP = "clap_text_model"
"""The `model_type` of the half of CLAP that reads texts."""

CLAP_LENGTH = 77
"""Tokens that a text is padded or cut to for CLAP, where the configuration does not say."""

LENGTH = 128
"""Tokens that a text is padded or cut to for T5, which by itself has no limit, where the configuration does not say."""


class TextEncoder(nn.Module, ABC):
    """Texts as token ids -> context tokens.

    Attributes:
        tokenizer: which of `Tokenizers` makes the ids.
        model: transformers' own network.
    """

    tokenizer: ClassVar[str]
    model: PreTrainedModel

    @property
    @abstractmethod
    def dim(self) -> int:
        """Width of the context tokens."""

    @property
    @abstractmethod
    def max_length(self) -> int:
        """Tokens that every text is padded to, special ones included."""

    @abstractmethod
    def forward(self, input_ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        """Returns the context tokens."""


class T5TextEncoder(TextEncoder):
    """T5's encoder (arXiv 1910.10683). Its tokens are the context as they are, as in Imagen: nothing is normalised.

    The encoder does not see what pads a text; its tokens there are zeros, so that the diffuser finds nothing in them.

    Args:
        config: a transformers T5Config as a dict; "context_length" is what texts are padded to.
    """

    tokenizer = "t5"

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        values = {name: value for name, value in config.items() if name not in ("context_length", "model_type")}
        # the stack alone: T5EncoderModel holds its embeddings twice, which no file of safetensors may
        self._sizes, self._length = T5Config(**values), int(config.get("context_length", LENGTH))
        self.model = T5EncoderModel(self._sizes).encoder

    @property
    def dim(self) -> int:
        """See `TextEncoder.dim`."""
        return self._sizes.d_model

    @property
    def max_length(self) -> int:
        """See `TextEncoder.max_length`."""
        return self._length

    def forward(self, input_ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n d"]:
        there = input_ids.ne(int(self._sizes.pad_token_id or 0))
        tokens = self.model(input_ids=input_ids, attention_mask=there.long()).last_hidden_state
        return tokens * there[..., None]
