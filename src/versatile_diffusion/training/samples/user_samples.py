"""The samples of a user's run: encoded first, or on the way where there are many."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.data.problems import BadSample
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.loop.batch_share import own_share
from versatile_diffusion.training.loop.preview import PREVIEWED
from versatile_diffusion.training.samples.block_reader import BLOCK, HELD_OUT, BlockReader
from versatile_diffusion.training.samples.encoded_samples import encoded, open_shard, write_shard
from versatile_diffusion.training.samples.sample_block import SampleBlock
from versatile_diffusion.training.samples.sample_cache import (
    TRAINING,
    VALIDATION,
    CacheBuilder,
    SampleCache,
    too_large,
    warnings_in_one,
)
from versatile_diffusion.training.samples.sample_encoder import Bucket, FittedSample
from versatile_diffusion.training.samples.sample_reader import SampleReader
from versatile_diffusion.training.samples.sample_source import RowSource
from versatile_diffusion.training.samples.sample_stream import SampleStream
from versatile_diffusion.training.settings.choices import CachePolicy
from versatile_diffusion.training.settings.training_settings import TrainingSettings

AT_ONCE = 10_000
"""Samples that are encoded before the first step, at most, where nobody says otherwise."""
CACHE, STREAM = "cache", "stream"
"""Folders of a run: of all samples, encoded; and of the few that are shown and measured on, where others are not."""
_INDEX = "stream.json"
_SHOWN = "shown"
_LOOKED_AT = 8
"""Samples from whose sizes that of all is told."""

Samples = SampleCache | SampleStream


@dataclass(frozen=True)
class DataSize:
    """About how large a data set is.

    Attributes:
        count: of its samples; None if nothing tells.
        each: bytes that a sample takes once it is encoded.
    """

    count: int | None
    each: int

    @property
    def bytes(self) -> int | None:
        """All of it, encoded."""
        return None if self.count is None else self.count * self.each

    def __str__(self) -> str:
        if self.count is None:
            return f"A sample would take {told_bytes(self.each)} of latents and context tokens"
        samples = "1 sample takes" if self.count == 1 else f"{self.count:,} samples take"
        return f"About {samples} {told_bytes(self.count * self.each)} of latents and context tokens"


class UserSamples:
    """Opens the samples of a run.

    Args:
        settings: of the run.
        folder: of the run.
        data: the data set.
        reader: of its samples.
        origin: what encoded samples come from, in words; those of another origin are made anew.
        say: tells people something.
        computed: the numbers that steps compute in. Where samples are encoded on the way, encoders are held in them.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        folder: Path,
        data: CaptionedData,
        reader: SampleReader,
        origin: Mapping[str, object],
        say: Callable[[str], None],
        computed: torch.dtype = torch.float32,
    ) -> None:
        self.computed = computed
        self.settings, self.folder, self.data, self.reader, self.say = settings, folder, data, reader, say
        self.origin: dict[str, object] = json.loads(json.dumps(dict(origin)))
        self.limit = int(settings.cache_limit * 2**30)
        self.builder = CacheBuilder(folder / CACHE, reader, self.origin, self.limit)

    def open(self) -> dict[str, Samples]:
        """Returns the samples that are learnt from, and those that are measured on.

        Raises:
            ValueError: if nothing can be learnt from them, or there is no room for them.
        """
        if not self._are_cached():
            self.reader.encoder.hold_in(self.computed)  # before anything is encoded, so that a run goes on as it began
            return dict(self._stream())
        caches = self.builder.build(self.data)
        if not len(caches[TRAINING]):
            why = next(iter(self.reader.skipped.reasons.items()), None)
            empty = HELD_OUT if len(caches[VALIDATION]) else "It is empty."
            told = empty if why is None else f"Of {why[0]:.200}: {why[1]:.300}"
            raise ValueError(f"Nothing can be learnt from {self.settings.data:.300}. {told}")
        return dict(caches)

    def size(self) -> DataSize:
        """Tells how large the data set is, from its first samples."""
        each = [self.reader.encoder.bytes_of(sample) for sample in islice(self._readable(), _LOOKED_AT)]
        return DataSize(self.data.estimate(), sum(each) // max(1, len(each)))

    def _readable(self) -> Iterator[FittedSample]:
        """The first samples that can be read; what cannot is told when it is met again."""
        for row in islice(self.data.rows(), _LOOKED_AT**2):
            if not isinstance(found := self.reader.read(row), BadSample):
                yield found

    def _are_cached(self) -> bool:
        """Decides whether samples are encoded first, and says so. A run goes on as it began."""
        policy = self.settings.cache
        if policy is not CachePolicy.NEVER and self.builder.is_begun:
            return True
        if policy is not CachePolicy.ALWAYS and self._index().get("origin") == self.origin:
            return False
        size = self.size()
        first, why = self._decision(size)
        if size.each:  # where nothing can be read, that is told with its reason
            self.say(f"{size}: {'encoded first' if first else 'computed on the way'}{why}")
        return first

    def _decision(self, size: DataSize) -> tuple[bool, str]:
        """Returns whether samples are encoded first, and how the sentence that says so ends."""
        if self.settings.cache is CachePolicy.NEVER:
            return False, "."
        room = min(self.limit, shutil.disk_usage(self._there()).free)
        fits = size.bytes is None or size.bytes <= room
        if self.settings.cache is CachePolicy.ALWAYS:
            if not fits:
                raise too_large(room) if room == self.limit else self._no_room(size, room)
            return True, "."
        if fits and size.count is not None and size.count <= AT_ONCE:
            return True, "."
        if not fits:
            return False, f", since there is room for {told_bytes(room)} (--cache-limit)."
        return False, self._advice(size)

    def _advice(self, size: DataSize) -> str:
        drawn = self.settings.steps * self.settings.batch_size * self.settings.accumulate * own_share().processes
        often = "" if not size.count else f", of which this run draws {drawn:,}"
        return f"{often}. --cache always encodes them first, which pays where a run sees each several times."

    def _no_room(self, size: DataSize, room: int) -> ValueError:
        return ValueError(
            f"{size}, but only {told_bytes(room)} are free in {self.folder}. Free some, choose another --output, or "
            "compute them on the way with --cache never."
        )

    def _there(self) -> Path:
        """The folder of the run, or the nearest above it that is there already."""
        return next(each for each in (self.folder, *self.folder.absolute().parents) if each.is_dir())

    def _stream(self) -> dict[str, Samples]:
        """The stream of the samples that are learnt from, and those of its first block that are measured on."""
        settings, share = self.settings, own_share()
        source = RowSource(self.data, settings.seed, share)
        drawn = settings.batch_size * settings.accumulate
        blocks = BlockReader(source, self.reader, share, max(BLOCK, 4 * drawn))
        first: SampleBlock | None = None
        if self._index().get("origin") != self.origin:
            self.reader.skipped.begin()
            first = blocks.read(0, [Flow.parse(name) for name in settings.flows])
            self._keep(first)
        index = self._index()
        flows = [Flow.parse(str(name)) for name in index["flows"]]
        kept = {split: self._kept(split) for split in (_SHOWN, VALIDATION)}
        looks_like = str(self.origin["files"])
        stream = SampleStream(blocks, kept[_SHOWN], flows, looks_like, self.data.estimate(), self.say)
        if first is not None and share.rank == 0:
            stream.begin_with(first)
        return {TRAINING: stream, VALIDATION: kept[VALIDATION]}

    def _keep(self, block: SampleBlock) -> None:
        """Encodes and writes down what of a first block is shown and measured on, and last which flows it teaches."""
        folder = self.folder / STREAM
        for file in folder.glob("*.safetensors"):
            file.unlink()
        with warnings_in_one():
            for split, samples in ((_SHOWN, list(shown_of(block))), (VALIDATION, block.held_out)):
                for number, own in enumerate(_by_bucket(block, samples).values()):
                    write_shard(folder / f"{split}-{number:05d}.safetensors", encoded(block.encoder, own))
        index = {"origin": self.origin, "flows": list(map(str, block.flows))}
        write_whole(folder / _INDEX, json.dumps(index).encode())

    def _kept(self, split: str) -> SampleCache:
        files = sorted((self.folder / STREAM).glob(f"{split}-*.safetensors"))
        return SampleCache([open_shard(file) for file in files], self.reader.encoder)

    def _index(self) -> dict[str, Any]:
        file = self.folder / STREAM / _INDEX
        return json.loads(file.read_text()) if file.exists() else {}


def shown_of(block: SampleBlock) -> Iterator[FittedSample]:
    """Yields for each flow the first samples of the largest bucket that teaches it, none of them twice."""
    chosen: dict[str, FittedSample] = {}
    for flow in block.flows:
        teaching = [sample for sample in block.samples if sample.teaches(flow)]
        largest = max(_by_bucket(block, teaching).values(), key=len)
        chosen |= {sample.key: sample for sample in largest[:PREVIEWED]}
    yield from chosen.values()


def silent(text: str) -> None:
    """Tells nobody."""


def told_bytes(count: int) -> str:
    """Returns a number of bytes as people say it."""
    unit, name = (2**30, "GiB") if count >= 2**30 else (2**20, "MiB") if count >= 2**20 else (2**10, "KiB")
    return f"{count / unit:.1f} {name}"


def _by_bucket(block: SampleBlock, samples: Sequence[FittedSample]) -> dict[Bucket, list[FittedSample]]:
    found: dict[Bucket, list[FittedSample]] = {}
    for sample in samples:
        found.setdefault(block.encoder.bucket(sample), []).append(sample)
    return found
