"""A block: samples that are read together, and taken in batches of one bucket each, in an order that is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from versatile_diffusion.flows import Flow
from versatile_diffusion.training.samples.encoded_samples import EncodedSamples, encoded
from versatile_diffusion.training.samples.sample_encoder import Bucket, FittedSample, SampleEncoder
from versatile_diffusion.training.samples.sample_source import StreamPlace

BatchRows = tuple[int, ...]
"""Which samples of a block are a batch; one may be in it twice."""


@dataclass(frozen=True)
class SampleBlock:
    """Samples that are read together.

    Attributes:
        samples: that are learnt from.
        held_out: that are measured on.
        start: where the stream was before they were read.
        number: of the block in the run.
        seed: of the order in which batches are taken.
        encoder: of the samples.
        flows: that are learnt.
    """

    samples: Sequence[FittedSample]
    held_out: Sequence[FittedSample]
    start: StreamPlace
    number: int
    seed: int
    encoder: SampleEncoder
    flows: Sequence[Flow]

    def steps(self, count: int) -> int:
        """Returns how many batches of so many samples the block has for the flow that has most of them."""
        return max(len(self._batches_of(flow, count)) for flow in self.flows)

    def batch(self, flow: Flow, count: int, step: int) -> list[tuple[EncodedSamples, int]]:
        """Returns the samples of a step, each by those that it was encoded with, and its row there.

        Batches are encoded when they are first needed, once for all flows. A flow that has fewer batches than another
        takes its first ones again.
        """
        batches = self._batches_of(flow, count)
        rows = batches[step % len(batches)]
        among, places = self._encoded(rows)
        return [(among, places[row]) for row in rows]

    def teaches(self, flow: Flow) -> bool:
        """Tells whether a flow can be learnt from any of the samples."""
        return any(sample.teaches(flow) for sample in self.samples)

    def _encoded(self, rows: BatchRows) -> tuple[EncodedSamples, dict[int, int]]:
        places = {row: place for place, row in enumerate(dict.fromkeys(rows))}
        if rows not in self._kept:
            self._kept[rows] = encoded(self.encoder, [self.samples[row] for row in places])
        return self._kept[rows], places

    def _batches_of(self, flow: Flow, count: int) -> list[BatchRows]:
        if (flow, count) not in self._lists:
            taken, left_out = (
                [rows for rows in some if self.samples[rows[0]].teaches(flow)] for some in self._cut(count)
            )
            self._lists[flow, count] = taken or left_out
        return self._lists[flow, count]

    def _cut(self, count: int) -> tuple[list[BatchRows], list[BatchRows]]:
        """Cuts the samples into batches.

        What is left of a bucket is filled up with other samples of it, and is taken as often as it is full, so that all
        samples are seen equally often. Those that are not taken are returned apart.
        """
        generator = torch.Generator().manual_seed(self.seed)
        order: list[int] = torch.randperm(len(self.samples), generator=generator).numpy().tolist()
        buckets: dict[Bucket, list[int]] = {}
        batches, left_out = list[BatchRows](), list[BatchRows]()
        for row in order:
            own = buckets.setdefault(self._buckets[row], [])
            own.append(row)
            if len(own) % count == 0:
                batches.append(tuple(own[-count:]))
        for own in buckets.values():
            if rest := len(own) % count:
                taken = float(torch.rand(1, generator=generator)) < rest / count
                others = (own * (count // len(own) + 1))[: count - rest]
                (batches if taken else left_out).append((*own[len(own) - rest :], *others))
        return batches, left_out

    @cached_property
    def _buckets(self) -> list[Bucket]:
        return [self.encoder.bucket(sample) for sample in self.samples]

    @cached_property
    def _lists(self) -> dict[tuple[Flow, int], list[BatchRows]]:
        return {}

    @cached_property
    def _kept(self) -> dict[BatchRows, EncodedSamples]:
        return {}
