"""Texts before their model is loaded: their files, and the options of writing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, cast

from pydantic import Field

from versatile_diffusion.modalities.spec import Codec, DecodingOptions, ModalitySpec, ShownAs
from versatile_diffusion.validation import Integer, Number


class TextDecoding(DecodingOptions):
    """How texts are written; see `Optimus.generate`."""

    temperature: Annotated[
        Number | None,
        Field(
            ge=0, le=100, description="How freely words are drawn: 0 takes the likeliest; the model's own if left out."
        ),
    ] = None
    max_tokens: Annotated[
        Integer | None,
        Field(ge=1, le=1024, description="Most word pieces of a text; the model's own if left out."),
    ] = None
    top_k: Annotated[
        Integer | None,
        Field(ge=1, le=10**6, description="Draw from this many of the likeliest word pieces only."),
    ] = None
    top_p: Annotated[
        Number | None,
        Field(gt=0, le=1, description="Draw from the likeliest word pieces that hold this share of the probability."),
    ] = None


class TextCodec(Codec):
    """Texts in UTF-8. Items are str."""

    suffixes = (".txt",)
    suffix = ".txt"
    media_type = "text/plain"
    shown_as = ShownAs.TEXT
    inline = True

    def decode(self, content: bytes, most: int | None = None) -> str:
        """See `Codec.decode`: the text without a mark of its encoding and without a last line break."""
        if most is not None and len(content) > 4 * most:  # no character takes more bytes
            raise ValueError(f"The text is too long: {most} characters are allowed.")
        try:
            text = content.decode("utf-8-sig").removesuffix("\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"It is no text in UTF-8: {error}.") from error
        if most is not None and len(text) > most:
            raise ValueError(f"The text of {len(text)} characters is too long: {most} are allowed.")
        return text

    def encode(self, item: object, record: Mapping[str, str] | None = None) -> bytes:
        """See `Codec.encode`: the text and a line break."""
        return f"{_text(item)}\n".encode()

    def values(self, data: object) -> list[str]:
        """See `Codec.values`: a text or a list of texts as a list."""
        return read_texts(data)

    def measure(self, item: object) -> int:
        """See `Codec.measure`: characters."""
        return len(_text(item))

    def parse(self, argument: str) -> str:
        """See `Codec.parse`: the words themselves."""
        return argument

    def read(self, file: Path) -> str:
        """See `Codec.read`."""
        return _text(super().read(file))


def read_texts(data: object) -> list[str]:
    """Returns a text or a list of texts as a list.

    Raises:
        TypeError: if it is something else.
        ValueError: if a text holds half a character, a surrogate without its pair.
    """
    if isinstance(data, list | tuple):
        return [_text(item) for item in cast("Sequence[object]", data)]  # of anything, which is checked
    return [_text(data)]


def _text(item: object) -> str:
    if not isinstance(item, str):
        raise TypeError(_EXPECTED.format(item))
    try:
        item.encode()
    except UnicodeEncodeError as error:  # no tokenizer and no file could hold it
        raise ValueError(
            f"The text holds half a character at {error.start + 1}, a surrogate without its pair: write the whole one."
        ) from error
    return item


_EXPECTED = "A text must be a str, or a list of str for a batch, got {!r:.100}."

TEXT = ModalitySpec("text", TextCodec(), "versatile_diffusion.modalities.text:TextModality", TextDecoding)
