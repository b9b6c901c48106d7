"""Latents and context tokens of samples that are encoded on the way, block by block, from data of any size."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from jaxtyping import Float
from pydantic import BaseModel, ValidationError
from torch import Generator, Tensor

from versatile_diffusion.flows import Flow
from versatile_diffusion.training.loop.batch_share import WHOLE, BatchShare
from versatile_diffusion.training.samples.block_reader import BlockReader
from versatile_diffusion.training.samples.encoded_samples import pairs
from versatile_diffusion.training.samples.sample_block import SampleBlock
from versatile_diffusion.training.samples.sample_cache import SampleCache, encoders_warnings
from versatile_diffusion.training.samples.sample_source import StreamPlace


class StreamMemory(BaseModel):
    """Where a process is in its stream, as a checkpoint remembers it.

    Attributes:
        data: what the data set looked like; see `listing`.
        place: where the block begins.
        number: of the block.
        step: within the block.
    """

    data: str
    place: dict[str, object]
    number: int
    step: int


class SampleStream:
    """Samples that are read and encoded on the way: `StreamedData` for `DiffuserTask`.

    The samples of a block are taken in batches; when these are used up, the next block, which was read meanwhile in a
    thread of its own, takes its place. A batch is encoded when it is needed, once for all flows of a step.

    Args:
        reader: of the blocks.
        shown: the samples that previews show, which stay encoded.
        flows: that are learnt.
        data: what the data set looks like; see `listing`.
        count: about how many samples there are; None if nothing tells.
        say: tells people something.
    """

    def __init__(
        self,
        reader: BlockReader,
        shown: SampleCache,
        flows: Sequence[Flow],
        data: str,
        count: int | None,
        say: Callable[[str], None],
    ) -> None:
        self.reader, self.shown, self.flows, self.data = reader, shown, list(flows), data
        self.count, self.say = count, say
        self._thread = ThreadPoolExecutor(1, "reading a block")
        self._block: SampleBlock | None = None
        self._next: Future[SampleBlock] | None = None
        self._number, self._step = 0, 0
        self._drawn = dict.fromkeys(self.flows, 0)
        self._has_warned = False

    @property
    def about(self) -> str:
        """How many samples there are, in words."""
        return "samples read on the way" if self.count is None else f"about {self.count:,} samples, read on the way"

    def teaches(self, flow: Flow) -> bool:
        """See `LatentData.teaches`."""
        return flow in self.flows

    def draw(
        self, flow: Flow, count: int, generator: Generator, share: BatchShare = WHOLE
    ) -> tuple[Float[Tensor, "own *latent"], Float[Tensor, "own n d"]]:
        """See `LatentData.draw`. Every process draws from a stream of its own; a batch is of one bucket."""
        choices = share.of(torch.rand(count, 2, generator=generator))
        block = self._turn(flow, len(choices))
        with encoders_warnings() as told:
            found = pairs(flow, block.batch(flow, len(choices), self._step), choices)
        if told and not self._has_warned:
            self._has_warned = True
            warnings.warn(f"{told[0]}. More such warnings of this data set are left out.", UserWarning, stacklevel=2)
        return found

    def first(self, flow: Flow, count: int) -> tuple[Float[Tensor, "b *latent"], Float[Tensor, "b n d"]]:
        """See `LatentData.first`."""
        return self.shown.first(flow, count)

    def unconditional(self, flow: Flow) -> Float[Tensor, "1 n d"]:
        """See `LatentData.unconditional`."""
        return self.shown.unconditional(flow)

    def begin_with(self, block: SampleBlock) -> None:
        """Takes a first block that was read already, unless the stream goes on elsewhere."""
        self._next = self._thread.submit(lambda: block)

    def memory(self) -> object:
        """See `Task.memory`."""
        if self._block is None:
            return None
        step = max(self._drawn.values())
        place = self._block.start.as_dict()
        return StreamMemory(data=self.data, place=place, number=self._number, step=step).model_dump()

    def remember(self, memories: Sequence[object]) -> None:
        """See `Task.remember`. With another number of processes, or other data, a fresh epoch begins."""
        self._forget()
        found = [_memory(each) for each in memories]
        known = [memory for memory in found if memory is not None]
        share = self.reader.share
        if len(known) == share.processes and known[share.rank].data == self.data:
            own = known[share.rank]
            self.reader.source.go_to(StreamPlace.of(own.place))
            self._number, self._drawn = own.number, dict.fromkeys(self.flows, own.step)
            self._block = self._read(own.number)
            self._next = self._thread.submit(self._read, own.number + 1)
            return
        epoch = max((StreamPlace.of(memory.place).epoch + 1 for memory in known), default=0)
        self._number = max((memory.number + 1 for memory in known), default=0)
        self.reader.source.go_to(StreamPlace(epoch))
        why = "the data changed" if len(known) == share.processes else "there are other processes than before"
        told = why if known else "they were encoded first before"
        self.say(f"The samples begin at a fresh epoch ({epoch + 1}), since {told}.")

    def _turn(self, flow: Flow, count: int) -> SampleBlock:
        """Returns the block of a draw, and counts its step: a step begins with the flow that is drawn first."""
        if self._drawn[flow] == max(self._drawn.values()):
            if self._block is None or self._drawn[flow] >= self._block.steps(count):
                self._advance()
            self._step = self._drawn[flow]
        self._drawn[flow] += 1
        assert self._block is not None
        return self._block

    def _advance(self) -> None:
        if self._block is not None:
            self._number += 1
        self._block = self._read(self._number) if self._next is None else self._next.result()
        self._next = self._thread.submit(self._read, self._number + 1)
        self._drawn = dict.fromkeys(self.flows, 0)

    def _read(self, number: int) -> SampleBlock:
        return self.reader.read(number, self.flows)

    def _forget(self) -> None:
        if self._next is not None and not self._next.cancel():
            self._next.exception()  # waits, so that nothing reads on
        self._block = self._next = None


def _memory(values: object) -> StreamMemory | None:
    try:
        return StreamMemory.model_validate(values)
    except ValidationError:
        return None
