"""A data set of a user: its samples one after the other, and what was left out of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from versatile_diffusion.data.formats import find_format
from versatile_diffusion.data.sample import BadSample, Row, Sample, read_sample
from versatile_diffusion.modalities.base import Modality

SKIPPED = "skipped.jsonl"


class SkippedSamples:
    """What cannot be learnt from: each is a line of a file, with its name and the reason.

    Args:
        file: is begun anew; None keeps only the count.
        strict: whether the first one ends the run.
    """

    def __init__(self, file: Path | None = None, strict: bool = False) -> None:
        self.file, self.strict = file, strict
        self.reasons: dict[str, str] = {}
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("")

    def __len__(self) -> int:
        return len(self.reasons)

    def add(self, key: str, reason: str) -> None:
        """Writes down a sample, once.

        Raises:
            ValueError: if the first one ends the run; the message names the sample.
        """
        if self.strict:
            raise ValueError(
                f"{key:.300}: {reason:.500} Mend or remove it, or leave out --strict to skip such samples."
            )
        if key in self.reasons:
            return
        self.reasons[key] = reason
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "reason": reason[:1000]}, ensure_ascii=False) + "\n")


class CaptionedData:
    """A data set in whatever format it is kept.

    Args:
        source: a folder, a file, a pattern or hub:owner/name; see `formats.FORMATS`.
        skipped: where what cannot be learnt from is written down.

    Raises:
        FileNotFoundError, ValueError: see `find_format`.
    """

    def __init__(self, source: str, skipped: SkippedSamples | None = None) -> None:
        self.source, self.skipped = source, SkippedSamples() if skipped is None else skipped
        self.format = find_format(source)
        self.table = self.format.rows(source)

    def rows(self) -> Iterator[Row]:
        """Yields all entries, unread.

        Raises:
            ValueError: if the data set is damaged where no single sample can be left out.
        """
        try:
            for entry in self.table:
                row = entry["row"]
                assert isinstance(row, Row)
                yield row
        except (OSError, ValueError, RuntimeError) as error:
            raise ValueError(f"{self.source:.300} cannot be read as {self.format.about}: {error!s:.500}") from error

    def samples(self, modalities: Mapping[str, Modality]) -> Iterator[Sample]:
        """Yields all samples that can be learnt from.

        Args:
            modalities: that are learnt, which read the items.

        Raises:
            ValueError: see `rows` and `SkippedSamples.add`.
        """
        for row in self.rows():
            try:
                yield read_sample(row, modalities)
            except BadSample as problem:
                self.skipped.add(row.key, str(problem))
