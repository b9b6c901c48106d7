"""A data set of a user: its samples one after the other, and what was left out of it."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import BaseModel

from versatile_diffusion.data.formats import find_format
from versatile_diffusion.data.problems import BadSample, UnwantedSample
from versatile_diffusion.data.sample import Row, Sample, read_sample
from versatile_diffusion.files import write_whole
from versatile_diffusion.modalities.base import Modality

SKIPPED = "skipped.jsonl"


class SkippedLine(BaseModel):
    """A line of the file of samples that are not learnt from.

    Attributes:
        key: of the sample.
        reason: why it is left out.
        filter: the setting that left it out, if one did.
    """

    key: str
    reason: str
    filter: str | None = None


class SkippedSamples:
    """What is not learnt from: each sample is a line of a file, with its name, the reason, and the filter if it is one.

    Args:
        file: what it holds already counts, as when a run goes on; None keeps no file.
        strict: whether the first sample that cannot be learnt from ends the run. Filters never do.
        most: samples that are named, so that neither the file nor the memory grows without end. More are only counted.
    """

    def __init__(self, file: Path | None = None, strict: bool = False, most: int = 100_000) -> None:
        self.file, self.strict, self.most = file, strict, most
        self.reasons: dict[str, str] = {}
        self.filtered = Counter[str]()
        self.unnamed = 0
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        for line in _whole_lines(file):
            self.reasons[line.key] = line.reason
            self.filtered.update([line.filter] if line.filter else [])

    def __len__(self) -> int:
        return len(self.reasons) + self.unnamed

    def begin(self) -> None:
        """Forgets all, as for other data."""
        self.reasons.clear()
        self.filtered.clear()
        self.unnamed = 0
        if self.file is not None:
            write_whole(self.file, b"")

    def add(self, key: str, problem: BadSample) -> None:
        """Writes down a sample, once.

        Raises:
            ValueError: if the first one ends the run; the message names the sample.
        """
        by = problem.filter if isinstance(problem, UnwantedSample) else None
        reason = str(problem)
        if self.strict and by is None:
            raise ValueError(
                f"{key:.300}: {reason:.500} Mend or remove it, or leave out --strict to skip such samples."
            )
        if key in self.reasons:
            return
        self.filtered.update([by] if by else [])
        if len(self.reasons) >= self.most:
            self.unnamed += 1
            return
        self.reasons[key] = reason
        if self.file is not None:
            line = {"key": key, "reason": reason[:1000], **({"filter": by} if by else {})}
            self._write(json.dumps(line, ensure_ascii=False) + "\n")

    def _write(self, line: str) -> None:
        assert self.file is not None
        try:
            with self.file.open("a", encoding="utf-8", errors="backslashreplace") as file:  # odd names as JSON's \udcff
                file.write(line)
        except OSError as error:
            raise OSError(
                f"Which sample was left out could not be written to {self.file} ({error!s:.200}). Free some room, and "
                "give the same command to go on."
            ) from error

    def told(self) -> str:
        """Returns how many samples were left out, and by what, in a sentence without its end."""
        bad = len(self) - self.filtered.total()
        parts = [f"{bad:,} that cannot be used"] if bad else []
        parts += [f"{count:,} by {name}" for name, count in sorted(self.filtered.items())]
        count = "1 sample was" if len(self) == 1 else f"{len(self):,} samples were"
        return f"{count} left out: {', '.join(parts)}" if parts else "no samples were left out"


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

    def estimate(self) -> int | None:
        """Returns about how many samples there are; see `DataFormat.estimate`."""
        return self.format.estimate(self.source, self.table)

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
                self.skipped.add(row.key, problem)


def _whole_lines(file: Path | None) -> list[SkippedLine]:
    """The lines of a file, but for a last one that was cut short, and for what is none."""
    if file is None or not file.exists():
        return []
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    found: list[SkippedLine] = []
    for line in lines:
        with contextlib.suppress(ValueError):
            found.append(SkippedLine(**json.loads(line)))
    return found
