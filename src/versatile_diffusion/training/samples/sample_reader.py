"""Rows of a data set become samples that can be encoded, or are left out with the reason why."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import torch

from versatile_diffusion.data.captioned_data import SkippedSamples
from versatile_diffusion.data.filters import SampleFilters
from versatile_diffusion.data.problems import BadSample
from versatile_diffusion.data.sample import Row, Sample, read_wanted, words_modality
from versatile_diffusion.data.tables import captions_hint
from versatile_diffusion.training.samples.sample_encoder import FittedSample, SampleEncoder

_THREADS = 4


class SampleReader:
    """Reads rows, and leaves out what cannot be learnt from or is not wanted.

    Args:
        encoder: what samples are fitted for.
        skipped: where what is left out is written down.
        filters: which samples are wanted.
        validation: share of the samples that is held out, chosen by their names.
    """

    def __init__(
        self,
        encoder: SampleEncoder,
        skipped: SkippedSamples,
        filters: SampleFilters | None = None,
        validation: float = 0.0,
    ) -> None:
        self.encoder, self.skipped, self.validation = encoder, skipped, validation
        self.filters = SampleFilters() if filters is None else filters

    def is_held_out(self, key: str) -> bool:
        """Tells whether a sample is not learnt from but measured on; see `is_held_out`."""
        return is_held_out(key, self.validation)

    def samples(self, rows: Iterable[Row]) -> Iterator[FittedSample]:
        """Yields those samples that can be learnt from, and writes down the others.

        Raises:
            ValueError: see `SkippedSamples.add`.
        """
        for row in rows:
            yield from self._kept(row, self.read(row))

    def read_together(self, rows: Sequence[Row]) -> list[FittedSample]:
        """Returns the same as a list; files are decoded by several threads."""
        found = list(self._threads.map(self.read, rows))
        return [sample for row, each in zip(rows, found, strict=True) for sample in self._kept(row, each)]

    def read(self, row: Row) -> FittedSample | BadSample:
        """Returns a sample as it is encoded, or why it is left out."""
        try:
            sample = read_wanted(row, self.encoder.modalities, self.filters)
            if not self.encoder.teaches(sample):
                flows = ", ".join(map(str, self.encoder.flows))
                hint = "" if words_modality() in sample.items else f" {captions_hint()}"
                raise BadSample(
                    f"It has only {' and '.join(sample.items)}, which teaches none of the flows {flows}.{hint}"
                )
            if self.filters.lacks_similarity(row.facts):
                self.filters.require_similarity(similarity(sample, self.encoder))
            return self.encoder.fit(sample, varied=not self.is_held_out(row.key))
        except BadSample as problem:
            return problem

    def _kept(self, row: Row, found: FittedSample | BadSample) -> Iterator[FittedSample]:
        if isinstance(found, BadSample):
            self.skipped.add(row.key, found)
        else:
            yield found

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), "reading")


def is_held_out(key: str, validation: float) -> bool:
    """Tells whether a sample is among a share of all that is held out; by its name, so that it is so in every run."""
    return zlib.crc32(key.encode(errors="replace")) / 2**32 < validation


@torch.no_grad()
def similarity(sample: Sample, encoder: SampleEncoder) -> float | None:
    """Returns the highest cosine of two items of different modalities, such as an image and one of its captions.

    It is None where there is nothing to compare, as with an image without captions.
    """
    found = {name: encoder.modalities[name].shared_vectors(items) for name, items in sample.items.items()}
    first, *others = [vectors.float() for vectors in found.values() if vectors is not None] or [torch.empty(0)]
    return max((float((first @ other.T).max()) for other in others), default=None)
