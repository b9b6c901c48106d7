"""A user's pictures and captions, as the encoders of a model from nothing learn from them: squares of one size."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
from jaxtyping import Float, UInt8
from pydantic import TypeAdapter
from torch import Tensor

from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.data.cleaning import clean_caption
from versatile_diffusion.data.filters import SampleFilters
from versatile_diffusion.data.problems import BadSample
from versatile_diffusion.data.sample import Sample, read_wanted
from versatile_diffusion.files import write_whole
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.image import clip_view
from versatile_diffusion.modalities.vocabulary import Tokenizers, trained_tokenizers
from versatile_diffusion.processes import processes
from versatile_diffusion.training.samples.sample_reader import is_held_out
from versatile_diffusion.training.tasks.data import CaptionRoles, TrainingData

TRAINING, VALIDATION = "training", "validation"
MOST_CAPTIONS = 4
"""Captions of a picture that are learnt from, at most."""
_INDEX = "images.json"
_Index = TypeAdapter(dict[str, object])


@dataclass
class KeptSplit:
    """What is kept of one split, in the order of its pixels.

    Attributes:
        captions: of each picture that has some; their pixels come first.
        alone: how many pictures without captions come after these.
        texts: those without a picture.
    """

    captions: list[list[str]] = field(default_factory=list[list[str]])
    alone: int = 0
    texts: list[str] = field(default_factory=list[str])


_Splits = TypeAdapter(dict[str, KeptSplit])


class OwnImages(TrainingData):
    """One split of what `keep_images` kept.

    Args:
        folder: where it is kept.
        split: TRAINING or VALIDATION.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        index = _Index.validate_json((folder / _INDEX).read_bytes())
        self.size = TypeAdapter(int).validate_python(index["size"])
        self.splits = _Splits.validate_python(index["splits"])
        self.kept = self.splits[split]

    @property
    def description(self) -> str:
        """See `TrainingData.description`."""
        return f"{len(self)} images of {self.folder}, {zlib.crc32('|'.join(self.texts).encode()):08x}"

    @property
    def about(self) -> str:
        """What there is, in words."""
        alone = [(self.kept.alone, "images without captions"), (len(self.kept.texts), "texts alone")]
        return ", ".join([f"{len(self):,} images with captions", *(f"{n:,} {what}" for n, what in alone if n)])

    @cached_property
    def every_image(self) -> UInt8[np.ndarray, "n h w 3"]:
        """All pictures, those without captions last. They are mapped from disk."""
        shape = (len(self) + self.kept.alone, self.size, self.size, 3)
        if not shape[0]:  # nothing cannot be mapped
            return np.zeros(shape, np.uint8)
        return np.memmap(self.folder / f"{self.split}.bin", np.uint8, "r", shape=shape)

    @property
    def images(self) -> UInt8[np.ndarray, "n h w 3"]:
        """See `TrainingData.images`: those that have captions."""
        return self.every_image[: len(self)]

    @cached_property
    def every_text(self) -> list[str]:
        """All captions and texts once, cleaned as the flows to texts learn to write them."""
        own = [text for of in self.kept.captions for text in of]
        return list(dict.fromkeys(map(clean_caption, (*own, *self.kept.texts))))

    @cached_property
    def texts(self) -> Sequence[str]:  # pyright: ignore[reportIncompatibleMethodOverride] - made once
        """See `TrainingData.texts`. Pictures with fewer captions than others have them several times."""
        count = self.roles.count
        return [of[i % len(of)] for of in self.kept.captions for i in range(count)]

    @property
    def roles(self) -> CaptionRoles:
        """See `TrainingData.roles`: each caption says what the next one says."""
        count = max((len(of) for split in self.splits.values() for of in split.captions), default=1)
        return CaptionRoles(tuple(range(count)), tuple((i + 1) % count for i in range(count)))

    @cached_property
    def tokenizers(self) -> Tokenizers:  # pyright: ignore[reportIncompatibleMethodOverride] - trained once
        """See `TrainingData.tokenizers`: trained on all texts that are learnt from, whatever the split."""
        learnt = self.splits[TRAINING]
        return trained_tokenizers([*(text for of in learnt.captions for text in of), *learnt.texts])

    def __len__(self) -> int:
        return len(self.kept.captions)


@dataclass(frozen=True)
class ImageKeeper:
    """Keeps pictures as squares of the size of training, with their captions.

    Attributes:
        data: is read once.
        image: reads the pictures, and tells their size.
        text: reads the captions.
        filters: which samples are wanted.
        validation: share that is kept apart.
        most: samples that are kept at most; all by default.
    """

    data: CaptionedData
    image: ImageModality
    text: TextModality
    filters: SampleFilters
    validation: float
    most: int | None = None

    def keep(self, folder: Path, origin: Mapping[str, object]) -> None:
        """Keeps them, unless they are there already.

        Args:
            folder: where they are kept.
            origin: what they come from; those of another origin are kept anew.

        Raises:
            ValueError: if there are not two pictures with captions to learn from.
            OSError: if there is no room for them.
        """
        whole = {**origin, "filters": asdict(self.filters), "validation": self.validation}
        told = {"origin": json.loads(json.dumps(whole)), "size": self.image.size}
        index = folder / _INDEX
        with processes().main_process_first():
            if index.exists() and _Index.validate_json(index.read_bytes()).items() >= told.items():
                return
            folder.mkdir(parents=True, exist_ok=True)
            self.data.skipped.begin()
            splits = {split: KeptSplit() for split in (TRAINING, VALIDATION)}
            try:
                self._write(folder, splits)
            except OSError as error:
                raise OSError(
                    f"The pictures that encoders learn from could not be written to {folder} ({error!s:.200}). They "
                    f"take {3 * self.image.size**2 / 2**20:.3g} MiB each. Free some room, and give the same command to "
                    "go on."
                ) from error
            if (count := len(splits[TRAINING].captions)) < 2:
                raise ValueError(
                    f"{self.data.source:.300} has {count} pictures with captions to learn from, and a model from "
                    "nothing needs many. Take another --start."
                )
            write_whole(index, json.dumps({**told, "splits": _Splits.dump_python(splits)}).encode())

    def _write(self, folder: Path, splits: Mapping[str, KeptSplit]) -> None:
        """Writes the pixels of each split: of pictures with captions, then of those without."""
        with ExitStack() as opened:
            files = {split: opened.enter_context((folder / f"{split}.bin").open("wb")) for split in splits}
            later = {split: opened.enter_context(TemporaryFile(dir=folder)) for split in splits}
            for sample in islice(self._samples(), self.most):
                split = VALIDATION if is_held_out(sample.key, self.validation) else TRAINING
                kept, texts = splits[split], list(islice(map(str, sample.items.get(self.text.name, ())), MOST_CAPTIONS))
                if self.image.name not in sample.items:
                    kept.texts += texts
                    continue
                item = sample.items[self.image.name][0]
                assert isinstance(item, Tensor)
                (files if texts else later)[split].write(_pixels(item, self.image.size).tobytes())
                kept.captions += [texts] if texts else []
                kept.alone += not texts
            for split, alone in later.items():
                alone.seek(0)
                shutil.copyfileobj(alone, files[split])

    def _samples(self) -> Iterator[Sample]:
        modalities = {self.image.name: self.image, self.text.name: self.text}
        for row in self.data.rows():
            try:
                yield read_wanted(row, modalities, self.filters)
            except BadSample as problem:
                self.data.skipped.add(row.key, problem)


def _pixels(image: Float[Tensor, "3 h w"], size: int) -> UInt8[np.ndarray, "s s 3"]:
    return (clip_view(image, size).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
