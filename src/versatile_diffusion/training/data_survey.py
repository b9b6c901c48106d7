"""What a data set gives to train on, from a look at its beginning: flows, shapes, how large its cache would be."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from versatile_diffusion.training.reading.captioned_data import CaptionedData
from versatile_diffusion.training.reading.folder import named_files
from versatile_diffusion.training.reading.overview import Overview, look_at
from versatile_diffusion.training.reading.sample import Row, Sample
from versatile_diffusion.training.sample_encoder import FittedSample, SampleEncoder

LOOKED_AT = 500
"""Samples that are read at most."""
_SECONDS = 5.0
"""How long entries are counted that are not read."""
_KEPT_BYTES = 2
"""Of a number in the cache, which is in half precision."""


@dataclass
class DataSurvey:
    """What was found.

    Attributes:
        overview: of the samples that were read.
        entries: of the whole data set, usable or not; None where nobody can tell.
        exact: whether all of them were counted.
        flows: how many of the samples that were read teach which flow.
        buckets: how many of them have latents of which shapes.
        encoded: bytes that those take as latents and context tokens.
    """

    overview: Overview
    entries: int | None = None
    exact: bool = True
    flows: Counter[str] = field(default_factory=Counter[str])
    buckets: Counter[str] = field(default_factory=Counter[str])
    encoded: int = 0

    @property
    def samples(self) -> int | None:
        """Samples that can be learnt from, as far as those that were read tell."""
        read = self.overview.samples + len(self.overview.skipped)
        if self.overview.complete or self.entries is None or not read:
            return self.overview.samples if self.overview.complete else None
        return round(self.entries * self.overview.samples / read)

    @property
    def cache_bytes(self) -> int | None:
        """Bytes that all latents and context tokens take."""
        count = self.overview.samples
        return None if self.samples is None else round(self.encoded / max(1, count) * self.samples)


def survey(data: CaptionedData, encoder: SampleEncoder, most: int = LOOKED_AT) -> DataSurvey:
    """Reads the beginning of a data set, and counts how much there is.

    Args:
        data: the data set.
        encoder: of the flows that may be learnt; it encodes nothing here, so it needs no weights.
        most: samples that are read.
    """
    found = DataSurvey(Overview(""))

    def see(sample: Sample) -> None:
        flows = encoder.teaches(sample)
        found.flows.update(map(str, flows))
        if flows:
            fitted = encoder.fit(sample)
            found.buckets[_shapes(fitted, encoder)] += 1
            found.encoded += encoded_bytes(fitted, encoder)

    found.overview = look_at(data, encoder.modalities, most, see)
    found.entries, found.exact = found.overview.samples + len(found.overview.skipped), True
    if not found.overview.complete:
        found.entries, found.exact = count_entries(data)
    return found


def encoded_bytes(sample: FittedSample, encoder: SampleEncoder) -> int:
    """Returns the bytes that a sample takes in the cache."""
    shapes = [
        (encoder.modalities[name].latent_shape_of(items[0]), len(items)) for name, items in sample.shown.items() if items
    ]
    shapes += [(encoder.modalities[name].context_shape, len(items)) for name, items in sample.seen.items()]
    return _KEPT_BYTES * sum(math.prod(shape) * count for shape, count in shapes)


def count_entries(data: CaptionedData) -> tuple[int | None, bool]:
    """Counts the entries of a data set without reading them, for a few seconds.

    Returns:
        How many there are, and whether this is exact; else it is estimated by the sizes of files, or is None.
    """
    begun, count, seen = time.monotonic(), 0, 0
    for row in data.rows():
        count += 1
        seen += sum(_sizes(row))
        if time.monotonic() - begun > _SECONDS:
            total = sum(file.stat().st_size for file in named_files(data.source, (".tar", ".parquet")))
            return (round(count * total / seen) if total and seen else None), False
    return count, True


def _sizes(row: Row) -> Iterator[int]:
    return (len(part.content) for part in row.parts if not isinstance(part.content, Path))


def _shapes(sample: FittedSample, encoder: SampleEncoder) -> str:
    """The bucket of a sample for people: the sizes of its images, and what else it holds."""
    parts: list[str] = []
    for name, items in sample.shown.items():
        shape = encoder.modalities[name].latent_shape_of(items[0])
        parts.append(f"{name} {'×'.join(map(str, reversed(shape[1:])))}" if len(shape) > 1 else name)
    return ", ".join(parts) or "contexts alone"
