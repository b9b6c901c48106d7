"""Reads a stream of samples block by block."""

from __future__ import annotations

from collections.abc import Sequence

from versatile_diffusion.data.tables import captions_hint
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.loop.batch_share import BatchShare
from versatile_diffusion.training.samples.sample_block import SampleBlock
from versatile_diffusion.training.samples.sample_encoder import FittedSample
from versatile_diffusion.training.samples.sample_reader import SampleReader
from versatile_diffusion.training.samples.sample_source import RowSource, StreamPlace, drawn_number

BLOCK = 256
"""Samples of a block, at least."""
MOST_BYTES = 512 * 2**20
"""Of a block's samples before they are encoded: where they are large, a block has fewer."""
CHUNK = 32
"""Rows that are read at once."""
PATIENCE = 100_000
"""Rows that are read for a sample that can be learnt from."""
EXTENSION = 16
"""Times as many rows as a block has that are read for a sample that teaches a flow."""
HELD_OUT = "All of it is held out to measure on: lower --validation."


class BlockReader:
    """Reads blocks from a stream. What is in a block depends on nothing but where the stream was before it.

    Args:
        source: the stream.
        reader: of its rows.
        share: of this process.
        size: samples of a block.
    """

    def __init__(self, source: RowSource, reader: SampleReader, share: BatchShare, size: int = BLOCK) -> None:
        self.source, self.reader, self.share, self.size = source, reader, share, size

    def read(self, number: int, flows: Sequence[Flow]) -> SampleBlock:
        """Returns the next block. It ends when it is full, or holds all there is.

        Where it teaches nothing of a flow, it is read on for one that does; what teaches only others is passed over.

        Args:
            number: of the block.
            flows: that it must teach; none stands for those that the samples teach.

        Raises:
            ValueError: if there is nothing to learn from; see also `CaptionedData.rows` and `SkippedSamples.add`.
        """
        reading = _Reading(self.source, self.reader)
        while not reading.is_over and len(reading.samples) < self.size and reading.bytes < MOST_BYTES:
            reading.read()
            if not reading.samples and reading.rows >= PATIENCE:
                break
        if not reading.samples:
            raise ValueError(self._nothing(reading))
        limit = reading.rows + EXTENSION * self.size
        while missing := [flow for flow in flows if not any(sample.teaches(flow) for sample in reading.samples)]:
            if reading.is_over or reading.rows >= limit:
                raise ValueError(self._lacking(reading, missing))
            reading.read(missing)
        seed = drawn_number(self.source.seed, "block", number, self.share.rank)
        learnt = flows or [
            flow for flow in self.reader.encoder.flows if any(sample.teaches(flow) for sample in reading.samples)
        ]
        return SampleBlock(reading.samples, reading.held_out, reading.start, number, seed, self.reader.encoder, learnt)

    def _nothing(self, reading: _Reading) -> str:
        source, processes = self.source.data.source, self.share.processes
        if not reading.rows and not reading.held_out and processes > 1:
            return (
                f"There is nothing in {source:.300} for process {self.share.rank + 1} of {processes}: there are more "
                "processes than samples. Start fewer."
            )
        why = next(iter(self.reader.skipped.reasons.items()), None)
        left_out = self.reader.skipped.told()
        told = "It is empty." if not reading.rows else f"None of {reading.rows:,} samples is learnt from: {left_out}."
        if why is not None:
            told = f"{told} Of {why[0]:.200}: {why[1]:.300}"
        elif reading.held_out:
            told = HELD_OUT
        return f"Nothing can be learnt from {source:.300}. {told}"

    def _lacking(self, reading: _Reading, missing: Sequence[Flow]) -> str:
        taught = [str(flow) for flow in self.reader.encoder.flows if any(s.teaches(flow) for s in reading.samples)]
        return (
            f"The data set teaches {', '.join(taught)}, but not {', '.join(map(str, missing))}, as far as "
            f"{reading.rows:,} samples tell. {captions_hint()}"
        )


class _Reading:
    """A block while it is read."""

    def __init__(self, source: RowSource, reader: SampleReader) -> None:
        self.source, self.reader = source, reader
        self.start: StreamPlace = source.place
        self.samples, self.held_out = list[FittedSample](), list[FittedSample]()
        self.rows = self.bytes = 0
        self._ends = int(self.start.state is None)

    @property
    def is_over(self) -> bool:
        """Whether the block holds a whole epoch, so that samples would come again."""
        return self._ends > 1

    def read(self, teaching: Sequence[Flow] = ()) -> None:
        """Reads some rows, and keeps what teaches one of these flows; by default all."""
        rows = self.source.read(CHUNK)
        self._ends += not rows
        self.rows += len(rows)
        for sample in self.reader.read_together(rows):
            if self.reader.is_held_out(sample.key):
                self.held_out.append(sample)
            elif not teaching or any(sample.teaches(flow) for flow in teaching):
                self.samples.append(sample)
                self.bytes += sample.nbytes
