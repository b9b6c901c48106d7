# pyright: strict
"""Rewriting: a description with some of its words changed.

What goes is found by its words or by their meaning. What comes stands where the text then reads best, as judged by the
language model that writes texts anyway: in "a red house at night", "a blue" takes the place of "a red".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cosine_similarity

LONGEST_PHRASE = 4
SAME_MEANING = 0.85
"""Cosine from which two phrases mean the same: on postcards those that do have 0.97 or more, others 0.72 or less."""

_BATCH = 64
_WORD = re.compile(r"[\w'-]+")
_INSTRUCTION = re.compile(
    r"^(?:please )?(?:make|turn|change|convert|transform) "
    r"(?:it|(?:this|the) (?:picture|image|photo|photograph|postcard|painting|drawing)|this(?= an? ))"
    r"(?: look)?(?: like| into| to| as)? ",
    re.IGNORECASE,
)


@runtime_checkable
class Reader(Protocol):
    """What rewriting asks of a text modality; see `TextModality`."""

    def embed(self, items: Sequence[str]) -> Float[Tensor, "b n d"]:
        """Returns context tokens."""
        ...

    def log_likelihood(self, items: Sequence[str]) -> Float[Tensor, " b"]:
        """Returns how well texts read."""
        ...


@dataclass(frozen=True)
class Change:
    """What is to become of a picture.

    Attributes:
        prompt: what it is to be, in words, or as an instruction: "an oil painting", "make it an oil painting".
        remove: words for what is to go.
        add: words for what is to come, in its place if it has one.
    """

    prompt: str = ""
    remove: str = ""
    add: str = ""

    def rewrite(self, text: str, reader: Reader) -> str:
        """Returns a description of the picture as a description of what it becomes."""
        add = self.add
        gone = phrase_for(reader, text, self.remove)
        if gone and _whole(gone).search(text):
            text, add = _whole(gone).sub(lambda _: self.add, text), ""
        text = " ".join(text.split()).strip(" .,")
        for words in (add, _INSTRUCTION.sub("", self.prompt)):
            text = put(reader, text, words) if words else text
        return text


def phrase_for(reader: Reader, text: str, words: str) -> str:
    """Returns the words, if the text has them; else the phrase of the text that means the same; else the words.

    Words are looked for whole, in any case. Two phrases mean the same if the context encoder moves the same way from
    an empty text to either.
    """
    if not words or _whole(words).search(text):
        return words
    phrases = list(dict.fromkeys(text[start:end] for start, end in _phrases(text)))
    if not phrases:
        return words
    nothing, wanted, *found = reader.embed(["", words, *phrases]).float().mean(1)
    near = cosine_similarity(torch.stack(found) - nothing, (wanted - nothing)[None])
    return phrases[int(near.argmax())] if near.max() > SAME_MEANING else words


def put(reader: Reader, text: str, words: str) -> str:
    """Returns the text with the words where they read best: in the place of a phrase, in front of all, or behind."""
    if not text:
        return words
    behind, before = f"{text}, {words}", f"{words}, {text}"
    places = [text[:start] + words + text[end:] for start, end in _phrases(text)]
    texts = list(dict.fromkeys([behind, before, *places]))
    batches = [texts[i : i + _BATCH] for i in range(0, len(texts), _BATCH)]
    return texts[int(torch.cat([reader.log_likelihood(batch) for batch in batches]).argmax())]


def _whole(words: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(words)}(?!\w)", re.IGNORECASE)


def _phrases(text: str) -> Iterator[tuple[int, int]]:
    """Where each run of up to `LONGEST_PHRASE` words starts and ends."""
    words = [match.span() for match in _WORD.finditer(text)]
    for first, (start, _) in enumerate(words):
        for _, end in words[first : first + LONGEST_PHRASE]:
            yield start, end
