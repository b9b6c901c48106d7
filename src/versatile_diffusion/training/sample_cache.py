"""Latents and context tokens of a user's samples: encoded once, kept in shards, drawn by flow and bucket."""

from __future__ import annotations

import json
import warnings
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from safetensors import safe_open
from safetensors.torch import save  # pyright: ignore[reportUnknownVariableType] - safetensors leaves a parameter untyped
from torch import Tensor

from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.data.sample import BadSample, read_sample
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.sample_encoder import LATENTS, ROWS, TOKENS, Bucket, FittedSample, SampleEncoder

TRAINING, VALIDATION = "training", "validation"
SHARD = 256
"""Samples in a shard."""
BATCH = 16
"""Samples that are encoded at once."""
_INDEX = "cache.json"


@dataclass(frozen=True)
class Shard:
    """A file of samples of one bucket.

    Attributes:
        path: of the file.
        keys: what the samples are called.
    """

    path: Path
    keys: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> Shard:
        """Opens a file; tensors are read when they are asked for."""
        with _opened(path) as file:
            return cls(path, tuple(json.loads(file.metadata()["keys"])))

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All that it holds, memory-mapped."""
        with _opened(self.path) as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping

    def teaches(self, flow: Flow) -> bool:
        """Tells whether a flow can be learnt from it."""
        return f"{flow.output}/{LATENTS}" in self.tensors and f"{flow.context}/{TOKENS}" in self.tensors

    def items(self, name: str, part: str, row: int, choice: float) -> tuple[Tensor, int, int]:
        """Returns one item of a sample, with its place and their number.

        Args:
            name: of the modality.
            part: "latents" or "tokens".
            row: of the sample.
            choice: of its items, from 0 to 1.
        """
        start, stop = (int(self._bounds[name][row + end]) for end in (0, 1))
        place = min(int(choice * (stop - start)), stop - start - 1)
        return self.tensors[f"{name}/{part}"][start + place], place, stop - start

    @cached_property
    def _bounds(self) -> dict[str, Tensor]:
        """By modality, where the items of each sample begin."""
        rows = {name.removesuffix(f"/{ROWS}"): of for name, of in self.tensors.items() if name.endswith(f"/{ROWS}")}
        numbers = torch.arange(len(self.keys) + 1, dtype=torch.int32)
        return {name: torch.searchsorted(of, numbers) for name, of in rows.items()}


class SampleCache:
    """The encoded samples of one split: `LatentData` for `DiffuserTask`.

    Args:
        shards: all of them.
        encoder: whose unconditional tokens are used.
    """

    def __init__(self, shards: Sequence[Shard], encoder: SampleEncoder) -> None:
        self.shards, self.encoder = tuple(shards), encoder

    def __len__(self) -> int:
        return sum(len(shard.keys) for shard in self.shards)

    @property
    def flows(self) -> list[Flow]:
        """The flows that can be learnt."""
        return [flow for flow in self.encoder.flows if self.teaches(flow)]

    def teaches(self, flow: Flow) -> bool:
        """See `LatentData.teaches`."""
        return any(shard.teaches(flow) for shard in self.shards)

    def draw(
        self, flow: Flow, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "count *latent"], Float[Tensor, "count n d"]]:
        """See `LatentData.draw`. All samples are of one bucket, drawn by its share of all samples."""
        groups = self._groups[flow]
        sizes = torch.tensor([len(group) for group in groups], dtype=torch.float64)
        group = groups[int(torch.multinomial(sizes, 1, generator=generator))]
        index = torch.randint(len(group), (count,), generator=generator)
        choices = torch.rand(count, 2, generator=generator)
        return self._pairs(flow, [group[int(i)] for i in index], choices)

    def first(self, flow: Flow, count: int) -> tuple[Float[Tensor, "b *latent"], Float[Tensor, "b n d"]]:
        """See `LatentData.first`: of the largest bucket."""
        group = max(self._groups[flow], key=len)[:count]
        return self._pairs(flow, group, torch.zeros(len(group), 2))

    def unconditional(self, flow: Flow) -> Float[Tensor, "1 n d"]:
        """See `LatentData.unconditional`."""
        return self.encoder.unconditional(flow)

    @cached_property
    def _groups(self) -> dict[Flow, list[list[tuple[Shard, int]]]]:
        """The samples that teach a flow, by the shape of their latents."""
        found: dict[Flow, dict[tuple[int, ...], list[tuple[Shard, int]]]] = {flow: {} for flow in self.encoder.flows}
        for shard in self.shards:
            for flow in self.encoder.flows:
                if shard.teaches(flow):
                    shape = tuple(shard.tensors[f"{flow.output}/{LATENTS}"].shape[1:])
                    rows = ((shard, row) for row in range(len(shard.keys)))
                    found[flow].setdefault(shape, []).extend(rows)
        return {flow: list(groups.values()) for flow, groups in found.items()}

    def _pairs(
        self, flow: Flow, samples: Sequence[tuple[Shard, int]], choices: Float[Tensor, "b 2"]
    ) -> tuple[Float[Tensor, "b *latent"], Float[Tensor, "b n d"]]:
        """Latents and tokens of samples. A variation is learnt from another item of the sample, if it has several."""
        latents, tokens = list[Tensor](), list[Tensor]()
        for (shard, row), choice in zip(samples, choices, strict=True):
            shown, seen = map(float, choice)
            latent, place, count = shard.items(flow.output, LATENTS, row, shown)
            if flow.output == flow.context and count > 1:
                other = (place + 1 + min(int(seen * (count - 1)), count - 2)) % count
                seen = (other + 0.5) / count
            latents.append(latent)
            tokens.append(shard.items(flow.context, TOKENS, row, seen)[0])
        return torch.stack(latents).float(), torch.stack(tokens).float()


class CacheBuilder:
    """Encodes a data set into shards, and goes on where an earlier one stopped.

    Args:
        folder: of the shards.
        encoder: of the samples.
        origin: what the shards come from, in words; those of another origin are made anew.
        validation: share of the samples that is kept apart, chosen by their names.
        most: bytes that the shards may take.
    """

    def __init__(
        self, folder: Path, encoder: SampleEncoder, origin: Mapping[str, object], validation: float, most: int
    ) -> None:
        self.folder, self.encoder, self.validation, self.most = folder, encoder, validation, most
        self.origin = json.loads(json.dumps(dict(origin)))
        self._bytes = 0

    def build(self, data: CaptionedData) -> dict[str, SampleCache]:
        """Returns the caches of both splits. Only samples that are not encoded yet are read.

        Raises:
            ValueError: if nothing can be learnt from the data, or there is not enough room.
        """
        index = self.folder / _INDEX
        before: dict[str, Any] = json.loads(index.read_text()) if index.exists() else {}
        if before.get("origin") != self.origin:
            for file in self.folder.glob("*.safetensors"):
                file.unlink()
            before = {}
        if not before.get("complete"):
            write_whole(index, json.dumps({"origin": self.origin}).encode())
            self._encode(data)
            write_whole(index, json.dumps({"origin": self.origin, "complete": True}).encode())
        return {split: SampleCache(self._shards(split), self.encoder) for split in (TRAINING, VALIDATION)}

    def _shards(self, split: str = "*") -> list[Shard]:
        return [Shard.open(path) for path in sorted(self.folder.glob(f"{split}-*.safetensors"))]

    def _encode(self, data: CaptionedData) -> None:
        there = self._shards()
        self._bytes = sum(shard.path.stat().st_size for shard in there)
        known = {key for shard in there for key in shard.keys}
        waiting: dict[tuple[str, Bucket], list[FittedSample]] = {}
        with _progress() as bar, _warnings_in_one():
            task = bar.add_task("encoding samples", total=None, completed=len(known))
            for sample in self._samples(data, known):
                bar.advance(task)
                place = self._split(sample.key), self.encoder.bucket(sample)
                queue = waiting.setdefault(place, [])
                queue.append(sample)
                if len(queue) == SHARD:
                    self._write(place[0], waiting.pop(place))
            for (split, _), queue in sorted(waiting.items(), key=lambda item: item[0]):
                self._write(split, queue)

    def _samples(self, data: CaptionedData, known: set[str]) -> Iterator[FittedSample]:
        for row in data.rows():
            if row.key in known:
                continue
            try:
                sample = read_sample(row, self.encoder.modalities)
                if not self.encoder.teaches(sample):
                    held = " and ".join(sample.items)
                    flows = ", ".join(map(str, self.encoder.flows))
                    raise BadSample(f"It has only {held}, which teaches none of the flows {flows}.")
                yield self.encoder.fit(sample)
            except BadSample as problem:
                data.skipped.add(row.key, str(problem))

    def _split(self, key: str) -> str:
        chosen = zlib.crc32(key.encode(errors="replace")) / 2**32 < self.validation
        return VALIDATION if chosen else TRAINING

    def _write(self, split: str, samples: Sequence[FittedSample]) -> None:
        parts: dict[str, list[Tensor]] = {}
        for start in range(0, len(samples), BATCH):
            for name, rows in self.encoder.encode(samples[start : start + BATCH]).items():
                parts.setdefault(name, []).append(rows + start if name.endswith(ROWS) else rows)
        keys = json.dumps([sample.key for sample in samples])
        content = save({name: torch.cat(rows) for name, rows in parts.items()}, {"keys": keys})
        self._bytes += len(content)
        if self._bytes > self.most:
            raise ValueError(
                f"Latents and context tokens of this data take more than {self.most / 2**30:.3g} GiB. Allow more with "
                "--cache-limit, or compute them on the way with --cache never."
            )
        number = len(list(self.folder.glob(f"{split}-*.safetensors")))
        write_whole(self.folder / f"{split}-{number:05d}.safetensors", content)


@contextmanager
def _warnings_in_one() -> Generator[None]:
    """Tells once what encoders warn of, which a large data set may make them do for every caption."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        yield
    if told:
        more = f" There are {len(told) - 1:,} more warnings of this data set." if len(told) > 1 else ""
        warnings.warn(f"{told[0].message}.{more}", UserWarning, stacklevel=2)


def _progress() -> Progress:
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


def _opened(path: Path) -> Any:
    return safe_open(path, framework="pt")  # pyright: ignore[reportUnknownVariableType] - safetensors has no types
