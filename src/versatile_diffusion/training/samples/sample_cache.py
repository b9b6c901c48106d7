"""Latents and context tokens of a user's samples: encoded once, kept in shards, drawn by flow and bucket."""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.loop.batch_share import WHOLE, BatchShare
from versatile_diffusion.training.samples.encoded_samples import EncodedSamples, encoded, open_shard, pairs, write_shard
from versatile_diffusion.training.samples.sample_encoder import LATENTS, Bucket, FittedSample, SampleEncoder
from versatile_diffusion.training.samples.sample_reader import SampleReader

TRAINING, VALIDATION = "training", "validation"
SHARD = 256
"""Samples in a shard."""
_INDEX = "cache.json"


class SampleCache:
    """The encoded samples of one split: `LatentData` for `DiffuserTask`.

    Args:
        shards: all of them.
        encoder: whose unconditional tokens are used.
    """

    def __init__(self, shards: Sequence[EncodedSamples], encoder: SampleEncoder) -> None:
        self.shards, self.encoder = tuple(shards), encoder

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    @property
    def about(self) -> str:
        """How many samples there are, in words."""
        return f"{len(self):,} samples"

    @property
    def flows(self) -> list[Flow]:
        """The flows that can be learnt."""
        return [flow for flow in self.encoder.flows if self.teaches(flow)]

    def teaches(self, flow: Flow) -> bool:
        """See `LatentData.teaches`."""
        return any(shard.teaches(flow) for shard in self.shards)

    def draw(
        self, flow: Flow, count: int, generator: torch.Generator, share: BatchShare = WHOLE
    ) -> tuple[Float[Tensor, "own *latent"], Float[Tensor, "own n d"]]:
        """See `LatentData.draw`. All samples are of one bucket, drawn by its share of all samples."""
        groups = self._groups[flow]
        sizes = torch.tensor([len(group) for group in groups], dtype=torch.float64)
        group = groups[int(torch.multinomial(sizes, 1, generator=generator))]
        index = share.of(torch.randint(len(group), (count,), generator=generator))
        choices = share.of(torch.rand(count, 2, generator=generator))
        return pairs(flow, [group[int(i)] for i in index], choices)

    def first(self, flow: Flow, count: int) -> tuple[Float[Tensor, "b *latent"], Float[Tensor, "b n d"]]:
        """See `LatentData.first`: of the largest bucket."""
        group = max(self._groups[flow], key=len)[:count]
        return pairs(flow, group, torch.zeros(len(group), 2))

    def unconditional(self, flow: Flow) -> Float[Tensor, "1 n d"]:
        """See `LatentData.unconditional`."""
        return self.encoder.unconditional(flow)

    @cached_property
    def _groups(self) -> dict[Flow, list[list[tuple[EncodedSamples, int]]]]:
        """The samples that teach a flow, by the shape of their latents."""
        found: dict[Flow, dict[tuple[int, ...], list[tuple[EncodedSamples, int]]]] = {
            flow: {} for flow in self.encoder.flows
        }
        for shard in self.shards:
            for flow in self.encoder.flows:
                if shard.teaches(flow):
                    shape = tuple(shard.tensors[f"{flow.output}/{LATENTS}"].shape[1:])
                    found[flow].setdefault(shape, []).extend((shard, row) for row in range(len(shard)))
        return {flow: list(groups.values()) for flow, groups in found.items()}


class CacheBuilder:
    """Encodes a data set into shards, and goes on where an earlier one stopped.

    Args:
        folder: of the shards.
        reader: of the samples.
        origin: what the shards come from, in words; those of another origin are made anew.
        most: bytes that the shards may take.
    """

    def __init__(self, folder: Path, reader: SampleReader, origin: Mapping[str, object], most: int) -> None:
        self.folder, self.reader, self.encoder, self.most = folder, reader, reader.encoder, most
        self.origin = json.loads(json.dumps(dict(origin)))
        self._bytes = 0

    @property
    def is_begun(self) -> bool:
        """Whether there are shards of this origin, or all of them."""
        return self._before.get("origin") == self.origin

    def build(self, data: CaptionedData) -> dict[str, SampleCache]:
        """Returns the caches of both splits. Only samples that are not encoded yet are read.

        Raises:
            ValueError: if nothing can be learnt from the data, or there is not enough room.
        """
        if not self.is_begun:
            for file in self.folder.glob("*.safetensors"):
                file.unlink()
            self.reader.skipped.begin()
            write_whole(self.folder / _INDEX, json.dumps({"origin": self.origin}).encode())
        if not self._before.get("complete"):
            self._encode(data)
            write_whole(self.folder / _INDEX, json.dumps({"origin": self.origin, "complete": True}).encode())
        return {split: SampleCache(self._shards(split), self.encoder) for split in (TRAINING, VALIDATION)}

    @property
    def _before(self) -> dict[str, Any]:
        index = self.folder / _INDEX
        return json.loads(index.read_text()) if index.exists() else {}

    def _shards(self, split: str = "*") -> list[EncodedSamples]:
        return [open_shard(path) for path in sorted(self.folder.glob(f"{split}-*.safetensors"))]

    def _encode(self, data: CaptionedData) -> None:
        self._bytes = sum(path.stat().st_size for path in self.folder.glob("*.safetensors"))
        known = {key for shard in self._shards() for key in shard.keys}
        waiting: dict[tuple[str, Bucket], list[FittedSample]] = {}
        with _progress() as bar, warnings_in_one():
            task = bar.add_task("encoding samples", total=None, completed=len(known))
            for sample in self.reader.samples(row for row in data.rows() if row.key not in known):
                bar.advance(task)
                split = VALIDATION if self.reader.is_held_out(sample.key) else TRAINING
                place = split, self.encoder.bucket(sample)
                queue = waiting.setdefault(place, [])
                queue.append(sample)
                if len(queue) == SHARD:
                    self._write(place[0], waiting.pop(place))
            for (split, _), queue in sorted(waiting.items(), key=lambda item: item[0]):
                self._write(split, queue)

    def _write(self, split: str, samples: Sequence[FittedSample]) -> None:
        number = len(list(self.folder.glob(f"{split}-*.safetensors")))
        room = self.most - self._bytes
        try:
            size = write_shard(self.folder / f"{split}-{number:05d}.safetensors", encoded(self.encoder, samples), room)
        except OSError as error:
            raise OSError(
                f"Encoded samples could not be written to {self.folder} ({error!s:.200}). Free some room, and give "
                "the same command to go on, or compute them on the way with --cache never."
            ) from error
        self._bytes += size
        if size > room:
            raise too_large(self.most)


def too_large(most: int) -> ValueError:
    """Returns the error that a cache would take more bytes than it may."""
    return ValueError(
        f"Latents and context tokens of this data take more than {most / 2**30:.3g} GiB. Allow more with "
        "--cache-limit, or compute them on the way with --cache never."
    )


@contextmanager
def warnings_in_one() -> Generator[None]:
    """Tells once what encoders warn of, which a large data set may make them do for every caption."""
    with encoders_warnings() as told:
        yield
    if told:
        more = f" There are {len(told) - 1:,} more warnings of this data set." if len(told) > 1 else ""
        warnings.warn(f"{told[0]}.{more}", UserWarning, stacklevel=2)


@contextmanager
def encoders_warnings() -> Generator[list[str]]:
    """Gathers what encoders warn of. What libraries tell programmers, such as PIL of a large image, is left out."""
    found = list[str]()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        yield found
    found += [str(each.message).rstrip(".") for each in told if each.category is UserWarning]


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
