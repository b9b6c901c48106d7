"""Editing: a picture changed by words.

Two ways, both by a text in between. `rewrite` writes down what the picture shows, changes the words, and paints from
the new text and the old picture. `latent` is the way of the first official release (I2T2I, which its second release
took offline): it changes the latent of the text instead of its words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity, normalize

from versatile_diffusion.conditioning import read_items
from versatile_diffusion.context import Context
from versatile_diffusion.modalities.focus import reduce_rank
from versatile_diffusion.outputs import Outputs

OFFICIAL_RANK = 10
LONGEST_PHRASE = 3
SAME_MEANING = 0.85
"""Cosine from which two phrases mean the same: on postcards those that do have 0.97 or more, others 0.72 or less."""


class Method(StrEnum):
    """How the text in between is changed: its words, or its latent."""

    REWRITE = "rewrite"
    LATENT = "latent"

    @property
    def text_share(self) -> float:
        """Weight of the new text beside the old picture; that of `LATENT` is the official one."""
        return 0.8 if self is Method.REWRITE else 0.67


def _whole(words: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(words)}\b", re.IGNORECASE)


Words = str | Sequence[str] | None
"""For all pictures, or for each."""


@runtime_checkable
class Editor(Protocol):
    """What editing needs of a pipeline; see `VersatileDiffusionPipeline`."""

    modalities: Any
    generate: Any
    encode: Any
    decode: Any
    encode_context: Any


@dataclass(frozen=True)
class Change:
    """What is to become of a picture.

    Attributes:
        prompt: what it is to be, in words.
        remove: words for what is to go.
        add: words for what is to come.
    """

    prompt: str = ""
    remove: str = ""
    add: str = ""

    def rewrite(self, text: str) -> str:
        """The text with the words replaced. What finds no place in it is put behind it.

        Words that are to go are looked for whole, in any case. Where they stand, the new words stand then.
        """
        add = self.add
        if self.remove and _whole(self.remove).search(text):
            text, add = _whole(self.remove).sub(lambda _: self.add, text), ""
        parts = [" ".join(part.split()).strip(" .,") for part in (text, add, self.prompt)]
        return ", ".join(part for part in parts if part)


def edit(
    pipe: Editor,
    image: Any,
    prompt: Words,
    remove: Words,
    add: Words,
    method: str,
    text_share: float | None,
    strength: float,
    **options: Any,
) -> Outputs:
    """Edits pictures. See `NamedFlows.edit`."""
    way = Method(method)
    share = way.text_share if text_share is None else text_share
    if not 0 < share <= 1:
        raise ValueError(f"text_share must lie above 0, and at most at 1, got {share}.")
    images = read_items(pipe.modalities["image"], image)
    contexts = (_rewritten if way is Method.REWRITE else _moved)(
        pipe, images, _changes(len(images), prompt, remove, add)
    )
    mixed = [Context(weight=weight, **given) for given, weight in zip(contexts, (share, 1 - share), strict=True)]
    begin = {} if strength == 1 else {"start": images, "strength": strength}
    return pipe.generate("image", mixed, **begin, **options)


def _changes(count: int, prompt: Words, remove: Words, add: Words) -> list[Change]:
    """A change for each picture."""
    columns: list[list[str]] = []
    for name, words in (("prompt", prompt), ("remove", remove), ("add", add)):
        column = [words or ""] * count if words is None or isinstance(words, str) else list(words)
        if len(column) != count:
            raise ValueError(f"{count} pictures need one {name}, or {count}, got {len(column)}.")
        columns.append([word.strip() for word in column])
    made = [Change(*row) for row in zip(*columns, strict=True)]
    if Change() in made:
        raise ValueError("Nothing to change: say what with prompt, remove or add.")
    return made


def _rewritten(pipe: Editor, images: list[Any], changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Contexts: the rewritten descriptions, and the pictures."""
    described = zip(changes, _describe(pipe, images).texts, strict=True)
    texts = [replace(change, remove=phrase_for(pipe, text, change.remove)).rewrite(text) for change, text in described]
    return [{"modality": "text", "data": texts}, {"modality": "image", "data": images}]


def phrase_for(pipe: Editor, text: str, words: str) -> str:
    """The words, if the text has them; else the phrase of the text that means the same; else the words.

    Two phrases mean the same if the context encoder moves the same way from an empty text to either.
    """
    if not words or _whole(words).search(text):
        return words
    pieces = re.findall(r"[\w'-]+", text)
    spans = [pieces[a:b] for a in range(len(pieces)) for b in range(a + 1, min(a + LONGEST_PHRASE, len(pieces)) + 1)]
    phrases = [phrase for phrase in dict.fromkeys(map(" ".join, spans)) if _whole(phrase).search(text)]
    if not phrases:
        return words
    nothing, wanted, *found = pipe.encode_context("text", ["", words, *phrases]).float().mean(1)
    near = cosine_similarity(torch.stack(found) - nothing, (wanted - nothing)[None])
    return phrases[int(near.argmax())] if near.max() > SAME_MEANING else words


def _moved(pipe: Editor, images: list[Any], changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Contexts of the official I2T2I: texts of moved latents beside the new words, and what is coarse in the pictures.

    The latents of descriptions lose their part in the direction of some words, and gain others.
    """
    latents = _describe(pipe, images, output_type="latent").latents
    latents = without(latents, _latents_of(pipe, [change.remove for change in changes]).to(latents))
    come = [change.add or change.prompt for change in changes]
    texts = pipe.decode("text", latents + _latents_of(pipe, come).to(latents), temperature=0)
    tokens = torch.cat([pipe.encode_context("text", part) for part in (texts, come)], dim=1)
    nothing = pipe.encode_context("text", [""]).repeat(1, 2, 1)
    coarse = reduce_rank(pipe.encode_context("image", images)[:, 1:], OFFICIAL_RANK)
    return [
        {"modality": "text", "embedding": tokens, "unconditional": nothing},
        {"modality": "image", "embedding": coarse, "unconditional": "zeros"},
    ]


def without(latents: Float[Tensor, "b d"], words: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Latents without their part in the direction of the words' latents; zeros take nothing away."""
    direction = normalize(words, dim=1)
    return latents - (latents * direction).sum(1, keepdim=True) * direction


def _latents_of(pipe: Editor, words: list[str]) -> Float[Tensor, "b d"]:
    """Latents of words; zeros where there are none."""
    latents = pipe.encode("text", words)
    return latents * torch.tensor([[float(bool(word))] for word in words]).to(latents)


def _describe(pipe: Editor, images: list[Any], **options: Any) -> Outputs:
    """What pictures show: the same words for the same picture, whatever is drawn later."""
    generators = [Generator().manual_seed(0) for _ in images]
    return pipe.generate("text", Context("image", images), generator=generators, **options)
