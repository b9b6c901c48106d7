"""What a data set holds, to look at before training on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from rich.table import Table
from torch import Tensor

from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.data.filters import SampleFilters
from versatile_diffusion.data.problems import UnwantedSample
from versatile_diffusion.data.sample import Sample, words_modality
from versatile_diffusion.modalities.base import Modality

_ASPECTS = ((0.0, 0.5), (0.5, 0.75), (0.75, 0.95), (0.95, 1.05), (1.05, 1.34), (1.34, 2.0), (2.0, float("inf")))
_SHOWN = 4
_BAR = 30
_NAMED = 10


@dataclass
class Overview:
    """What was found.

    Attributes:
        about: the format.
        samples: how many can be learnt from.
        complete: whether these are all, or there are more that were not read.
        kinds: how many samples have items of which modalities.
        captions: how many samples have so many captions.
        sizes: how many items with a height and a width have which, as (height, width).
        words: characters of all captions.
        skipped: why what samples cannot be used, by their names.
        filtered: how many samples filters would leave out, by the first filter that would.
        shown: the first samples.
    """

    about: str
    samples: int = 0
    complete: bool = True
    kinds: Counter[tuple[str, ...]] = field(default_factory=Counter[tuple[str, ...]])
    captions: Counter[int] = field(default_factory=Counter[int])
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])
    words: int = 0
    skipped: Mapping[str, str] = field(default_factory=dict[str, str])
    filtered: Counter[str] = field(default_factory=Counter[str])
    shown: list[Sample] = field(default_factory=list[Sample])

    def as_dict(self) -> dict[str, object]:
        """Returns all figures as JSON can hold them."""
        return {
            "format": self.about,
            "samples": self.samples,
            "complete": self.complete,
            "kinds": {" + ".join(kind): count for kind, count in self.kinds.items()},
            "captions": {str(number): count for number, count in sorted(self.captions.items())},
            "aspects": dict(self.aspects()),
            "sizes": {f"{width}×{height}": count for (height, width), count in self.sizes.most_common()},
            "skipped": dict(self.skipped),
            "filtered": dict(self.filtered),
        }

    def aspects(self) -> Iterator[tuple[str, int]]:
        """Yields how many items have an aspect (width by height) in which range."""
        for low, high in _ASPECTS:
            count = sum(n for (height, width), n in self.sizes.items() if low <= width / height < high)
            yield (f"{low:g} – {high:g}" if high < float("inf") else f"{low:g} and wider"), count

    def tables(self) -> Iterator[Table]:
        """Yields what was found as tables for people."""
        found = Table("what", "samples", title=self.about)
        found.add_row("can be learnt from", f"{self.samples:,}" + ("" if self.complete else " of the first ones"))
        for kind, count in self.kinds.most_common():
            found.add_row(f"with {' and '.join(kind)}", f"{count:,}")
        for number, count in sorted(self.captions.items()):
            found.add_row(f"with {number} caption{'s' * (number != 1)}", f"{count:,}")
        found.add_row("cannot be used", f"{len(self.skipped):,}")
        for name, count in sorted(self.filtered.items()):
            found.add_row(f"would be left out by {name}", f"{count:,}")
        yield found
        if self.sizes:
            yield self._aspect_table()
        if self.skipped:
            why = Table("sample", "why it cannot be used")
            for key, reason in islice(self.skipped.items(), _NAMED):
                why.add_row(f"{key:.80}", f"{reason:.200}")
            if len(self.skipped) > _NAMED:
                why.add_row("…", f"and {len(self.skipped) - _NAMED:,} more")
            yield why

    def _aspect_table(self) -> Table:
        table = Table("width / height", "samples", "")
        most = max(count for _, count in self.aspects())
        for name, count in self.aspects():
            table.add_row(name, f"{count:,}", "█" * round(_BAR * count / most))
        common = ", ".join(f"{width}×{height}" for (height, width), _ in self.sizes.most_common(3))
        several = len(self.sizes) > 1
        table.caption = f"{len(self.sizes):,} sizes, the most frequent {common}" if several else f"1 size, {common}"
        return table


def look_at(
    data: CaptionedData,
    modalities: Mapping[str, Modality],
    most: int | None = None,
    filters: SampleFilters | None = None,
    also: Callable[[Sample], None] = lambda _: None,
) -> Overview:
    """Reads a data set and counts what it holds.

    Args:
        data: the data set.
        modalities: that are looked for.
        most: samples that are read; all by default.
        filters: of which it is counted what they would leave out, as far as the data set tells without a model.
        also: called with each of them that is wanted.
    """
    found = Overview(data.format.about, skipped=data.skipped.reasons)
    for sample in data.samples(modalities):
        if found.samples == most:
            found.complete = False
            break
        _count(found, sample)
        try:
            (filters or SampleFilters()).require(sample)
        except UnwantedSample as problem:
            found.filtered[problem.filter] += 1
        else:
            also(sample)
    return found


def _count(found: Overview, sample: Sample) -> None:
    texts = [item for item in sample.items.get(words_modality(), ()) if isinstance(item, str)]
    found.samples += 1
    found.kinds[tuple(sorted(sample.items))] += 1
    found.captions[len(texts)] += 1
    found.words += sum(map(len, texts))
    for item in (item for items in sample.items.values() for item in items):
        if isinstance(item, Tensor) and item.ndim == 3:
            found.sizes[item.shape[-2], item.shape[-1]] += 1
    if len(found.shown) < _SHOWN and len(sample.items) > 1:
        found.shown.append(sample)
