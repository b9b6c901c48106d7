"""What a data set gives to train on, from a look at its beginning: flows, shapes, how large its cache would be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.data.filters import SampleFilters
from versatile_diffusion.data.overview import Overview, look_at
from versatile_diffusion.data.sample import Sample
from versatile_diffusion.training.samples.sample_encoder import FittedSample, SampleEncoder

LOOKED_AT = 500
"""Samples that are read at most."""


@dataclass
class DataSurvey:
    """What was found.

    Attributes:
        overview: of the samples that were read.
        entries: about how many the whole data set has, usable or not; None where nobody can tell.
        flows: how many of the samples that were read teach which flow.
        buckets: how many of them have latents of which shapes.
        encoded: bytes that those take as latents and context tokens.
    """

    overview: Overview
    entries: int | None = None
    flows: Counter[str] = field(default_factory=Counter[str])
    buckets: Counter[str] = field(default_factory=Counter[str])
    encoded: int = 0

    @property
    def samples(self) -> int | None:
        """Samples that can be learnt from, as far as those that were read tell."""
        read, wanted = self.overview.samples + len(self.overview.skipped), sum(self.buckets.values())
        if self.overview.complete:
            return wanted
        return None if self.entries is None else round(self.entries * wanted / max(1, read))

    @property
    def cache_bytes(self) -> int | None:
        """Bytes that all latents and context tokens take."""
        count = sum(self.buckets.values())
        return None if self.samples is None else round(self.encoded / max(1, count) * self.samples)


def survey(data: CaptionedData, encoder: SampleEncoder, filters: SampleFilters, most: int = LOOKED_AT) -> DataSurvey:
    """Reads the beginning of a data set, and counts how much there is.

    Args:
        data: the data set.
        encoder: of the flows that may be learnt; it encodes nothing here, so it needs no weights.
        filters: which samples are wanted.
        most: samples that are read.
    """
    found = DataSurvey(Overview(""))

    def see(sample: Sample) -> None:
        flows = encoder.teaches(sample)
        found.flows.update(map(str, flows))
        if flows:
            fitted = encoder.fit(sample)
            found.buckets[_shapes(fitted, encoder)] += 1
            found.encoded += encoder.bytes_of(fitted)

    found.overview = look_at(data, encoder.modalities, most, filters, see)
    read = found.overview.samples + len(found.overview.skipped)
    found.entries = read if found.overview.complete else data.estimate()
    return found


def _shapes(sample: FittedSample, encoder: SampleEncoder) -> str:
    """The bucket of a sample for people: the sizes of its images, and what else it holds."""
    parts: list[str] = []
    for name, items in sample.shown.items():
        shape = encoder.modalities[name].latent_shape_of(items[0])
        parts.append(f"{name} {'×'.join(map(str, reversed(shape[1:])))}" if len(shape) > 1 else name)
    return ", ".join(parts) or "contexts alone"
