"""A part of a modality on disk: its autoencoder or its context encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from versatile_diffusion.checkpoints.errors import CheckpointError, reading
from versatile_diffusion.checkpoints.tensors import Tensors, open_all
from versatile_diffusion.checkpoints.weight_files import ANY_FILES, find_weights
from versatile_diffusion.modalities import Modality

AUTOENCODER, CONTEXT_ENCODER = "autoencoder", "context_encoder"
PARTS = (AUTOENCODER, CONTEXT_ENCODER)
"""What a modality consists of; a source may have either without the other."""

_OF_CONTEXT = (CONTEXT_ENCODER, "projected")
"""Arguments of a modality that go with its context encoder; all others go with its autoencoder."""


@dataclass(frozen=True)
class EncoderPart:
    """An autoencoder or a context encoder on disk.

    Attributes:
        modality: a modality that has it, without weights, and nothing else.
        name: AUTOENCODER or CONTEXT_ENCODER.
        tensors: what it is to be filled with, under the modality's keys.
        source: where it is, for messages.
    """

    modality: Modality
    name: str
    tensors: Tensors
    source: str

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of the modality's class that go with it."""
        config = dict(self.modality.config)
        given = config.items() if self.name == AUTOENCODER else ((name, config.get(name)) for name in _OF_CONTEXT)
        return {
            name: value
            for name, value in given
            if not name.startswith("_")
            and value is not None
            and (name in _OF_CONTEXT) == (self.name == CONTEXT_ENCODER)
        }


FindPart = Callable[[str, str], EncoderPart | None]
"""Returns a part of a modality, by their names, if a source has it."""


def stored_tensors(folder: Path) -> tuple[Tensors, Path]:
    """Returns the tensors of a folder, and what errors call the place where they are.

    Raises:
        CheckpointError: if there are none.
    """
    weights = find_weights(folder, ANY_FILES)
    if not weights:
        raise CheckpointError(f"{folder} holds no weights ({ANY_FILES.kinds}). Download the whole folder again.")
    return open_all(weights), weights[0]


def holds_tokenizer(folder: Path) -> bool:
    """Tells whether a folder holds a tokenizer."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json", "spiece.model"))


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Returns the tokenizer of a folder, without a network."""
    with reading(folder):
        opened: object = AutoTokenizer.from_pretrained(folder, local_files_only=True)  # pyright: ignore - typed in part in transformers
    assert isinstance(opened, PreTrainedTokenizerBase)
    return opened
