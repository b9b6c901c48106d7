"""The samples that systems are measured on: chosen from a data set by a seed, so that all are given the same."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from pydantic import TypeAdapter

from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.data.sample import BadSample, Row, Sample, read_sample, words_modality
from versatile_diffusion.files import read_lines, write_whole
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.modalities.registry import modality_spec

MOST = 30_000
"""Samples that are measured where nobody says how many: as many as papers take."""


@dataclass(frozen=True)
class EvaluationSample:
    """A sample that is measured.

    Attributes:
        number: its place in the list, which names files of what is made of it.
        row: its place in the data set.
        key: its name in the data set.
        caption: of its captions, the one that something is made of; None if it has none.
        captions: all of them.
    """

    number: int
    row: int
    key: str
    caption: str | None
    captions: tuple[str, ...]

    @property
    def others(self) -> tuple[str, ...]:
        """The captions that nothing is made of; if there is only one, that one."""
        left = list(self.captions)
        if len(left) > 1 and self.caption is not None:
            left.remove(self.caption)
        return tuple(left)


def choose_samples(
    data: CaptionedData, needs: Collection[str], num: int | None, seed: int, most: int = MOST
) -> list[EvaluationSample]:
    """Chooses samples at random, and one caption of each; equal seeds choose the same.

    Each one is read, so that none is chosen which cannot be; these are in `data.skipped`.

    Args:
        data: to choose from; it is read twice.
        needs: modalities that a sample must have.
        num: how many; None takes all there are.
        seed: of the choice.
        most: how many at most, if `num` is None.

    Raises:
        ValueError: if there are not as many, or fewer than two.
    """
    ranked = sorted((_rank(seed, row.key), place) for place, row in enumerate(data.rows()) if _holds(row, needs, data))
    readers = {name: modality_spec(name).load()() for name in needs}
    count, tried = min(most, len(ranked)) if num is None else num, 0
    found: dict[int, Sample] = {}
    while len(found) < count and tried < len(ranked):
        wanted = {place for _, place in ranked[tried : tried + count - len(found)]}
        tried += len(wanted)
        found |= {place: _words_alone(sample) for place, sample in read_rows(data, wanted, readers)}
    if len(found) < (2 if num is None else count):
        raise ValueError(_too_few(data, needs, len(found), num))
    return [_sample(number, place, found[place], seed) for number, place in enumerate(sorted(found))]


def read_rows(
    data: CaptionedData, places: Collection[int], modalities: Mapping[str, Modality]
) -> Iterator[tuple[int, Sample]]:
    """Yields samples of a data set by their places, in order; those that cannot be read are in `data.skipped`."""
    last = max(places, default=-1)
    for place, row in enumerate(data.rows()):
        if place > last:
            break
        if place in places:
            try:
                yield place, read_sample(row, modalities)
            except BadSample as problem:
                data.skipped.add(row.key, problem)


def read_items(data: CaptionedData, samples: Sequence[EvaluationSample], modality: str) -> Iterator[object]:
    """Yields the item of a modality of each sample, such as its image.

    Raises:
        ValueError: if one cannot be read any more; the message names it.
    """
    readers = {modality: modality_spec(modality).load()()}
    found = read_rows(data, {sample.row for sample in samples}, readers)
    for sample in samples:
        place, read = next(found, (-1, None))
        if place != sample.row or read is None or read.key != sample.key:
            why = data.skipped.reasons.get(sample.key, "the data set changed.")
            raise ValueError(f"{sample.key:.200} of {data.source:.200} cannot be read any more: {why:.300}")
        yield read.items[modality][0]


def write_samples(samples: Sequence[EvaluationSample], file: Path) -> None:
    """Writes a list of samples, an object a line."""
    lines = (json.dumps(asdict(sample), ensure_ascii=False) + "\n" for sample in samples)
    write_whole(file, "".join(lines).encode())


def read_samples(file: Path) -> list[EvaluationSample]:
    """Reads what `write_samples` wrote.

    Raises:
        ValueError: if it is something else.
    """
    adapter = TypeAdapter(EvaluationSample)
    return [adapter.validate_json(line) for line in read_lines(file)]


def _rank(seed: int, key: str, about: str = "") -> int:
    """A number for each sample, as good as drawn, which does not depend on the others."""
    return int.from_bytes(blake2b(f"{seed} {about} {key}".encode(errors="replace"), digest_size=8).digest(), "big")


def _holds(row: Row, needs: Collection[str], data: CaptionedData) -> bool:
    """Whether an entry has items of all modalities, as far as that is known before they are read."""
    if row.problem is not None:
        data.skipped.add(row.key, row.problem)
        return False
    return set(needs) <= {part.modality for part in row.parts if part.content}


def _words_alone(sample: Sample) -> Sample:
    """The sample without what takes memory."""
    words = words_modality()
    return Sample(sample.key, {words: sample.items.get(words, ())})


def _sample(number: int, place: int, sample: Sample, seed: int) -> EvaluationSample:
    captions = tuple(str(item) for item in sample.items[words_modality()])
    chosen = captions[_rank(seed, sample.key, "caption") % len(captions)] if captions else None
    return EvaluationSample(number, place, sample.key, chosen, captions)


def _too_few(data: CaptionedData, needs: Collection[str], count: int, num: int | None) -> str:
    """What to say where there are fewer samples than are needed."""
    wanted = "two or more are needed" if num is None else f"{num} are asked for"
    why = next(iter(data.skipped.reasons.items()), None)
    left = len(data.skipped)
    skipped = "" if why is None else f" {left} cannot be used, such as {why[0]:.200}: {why[1]:.300}"
    there = f"{count} sample{'s' * (count != 1)} with {' and '.join(sorted(needs))}"
    advice = "" if count < 2 else f" Give --num {count} or less."
    return f"{data.source:.200} has {there}, and {wanted}.{advice}{skipped}"
