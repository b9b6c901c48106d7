"""A sample of a data set: its items of each modality, as the model takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from versatile_diffusion.data.filters import SampleFilters
from versatile_diffusion.data.problems import BadSample
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.modalities.registry import modality_names, modality_spec


@dataclass(frozen=True)
class SamplePart:
    """An item of a sample as its data set holds it.

    Attributes:
        modality: its name.
        content: words, the bytes of a file, or the path of one.
    """

    modality: str
    content: str | bytes | Path


@dataclass(frozen=True)
class Row:
    """An entry of a data set, nothing of which has been read yet.

    Attributes:
        key: what it is called, the same at every reading.
        parts: its items, several of a modality where an image has several captions.
        facts: what else is said of it, such as a similarity.
        problem: what is wrong with a whole part of the data set, which then has no items.
    """

    key: str
    parts: Sequence[SamplePart] = ()
    facts: Mapping[str, object] = field(default_factory=dict[str, object])
    problem: str | None = None


@dataclass(frozen=True)
class Sample:
    """What a row holds, read.

    Attributes:
        key: the row's.
        items: by the names of modalities, as these read them.
        facts: the row's.
    """

    key: str
    items: Mapping[str, tuple[object, ...]]
    facts: Mapping[str, object] = field(default_factory=dict[str, object])


def read_sample(row: Row, modalities: Mapping[str, Modality]) -> Sample:
    """Reads a row.

    Args:
        row: an entry of a data set.
        modalities: those that are learnt; items of others are left alone.

    Raises:
        BadSample: if an item is missing or damaged, a text is empty, or there is nothing to learn from.
    """
    if row.problem is not None:
        raise BadSample(row.problem)
    items: dict[str, tuple[object, ...]] = {}
    for part in row.parts:
        if part.modality in modalities:
            items[part.modality] = items.get(part.modality, ()) + tuple(_items(part, modalities[part.modality]))
    if not items:
        held = ", ".join(dict.fromkeys(part.modality for part in row.parts)) or "nothing"
        raise BadSample(f"There is nothing to learn from here but {held}; wanted are {', '.join(modalities)}.")
    return Sample(row.key, items, row.facts)


def read_wanted(row: Row, modalities: Mapping[str, Modality], filters: SampleFilters) -> Sample:
    """Reads a row that is wanted, as far as that is known without a model; what its data says of it is asked first.

    Args:
        row: an entry of a data set.
        modalities: see `read_sample`.
        filters: which samples are wanted.

    Raises:
        BadSample: see `read_sample`; an UnwantedSample if a filter leaves it out.
    """
    filters.require_facts(row.facts)
    sample = read_sample(row, modalities)
    filters.require_sizes(sample.items)
    return sample


def file_modality(name: str) -> str | None:
    """Returns the modality of files with the suffix of this name, or None if there is none."""
    suffix = Path(name).suffix.lower()
    return next((each for each in modality_names() if suffix in modality_spec(each).codec.suffixes), None)


def words_modality() -> str:
    """Returns the modality whose items are words, which captions are."""
    return next(name for name in modality_names() if modality_spec(name).codec.inline)


def captions_of(text: str) -> Iterator[SamplePart]:
    """Yields the captions in the text of a file, one a line; an empty text is an empty caption."""
    modality = words_modality()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    yield from (SamplePart(modality, line) for line in lines or [""])


def _items(part: SamplePart, modality: Modality) -> list[object]:
    codec = modality.spec.codec
    try:
        match part.content:
            case str():
                if not part.content.strip():
                    raise BadSample("The caption is empty.")
                return list(modality.read(part.content))
            case bytes():
                return list(modality.read(codec.decode(part.content)))
            case Path():
                if not part.content.is_file():
                    raise BadSample(f"There is no file {part.content}.")
                return list(modality.read(codec.read(part.content)))
    except BadSample:
        raise
    except (ValueError, TypeError, OSError, MemoryError) as error:
        raise BadSample(str(error)) from error
