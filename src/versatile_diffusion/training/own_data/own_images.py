"""A user's pictures with their captions, as the stages of a model from nothing learn from them: squares of one size."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from pydantic import TypeAdapter
from torch import Tensor

from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.data.problems import BadSample
from versatile_diffusion.files import write_whole
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.image import clip_view
from versatile_diffusion.modalities.vocabulary import Tokenizers, trained_tokenizers
from versatile_diffusion.processes import processes
from versatile_diffusion.training.tasks.data import CaptionRoles, TrainingData

TRAINING, VALIDATION = "training", "validation"
MOST_CAPTIONS = 4
"""Captions of a picture that are learnt from, at most."""
_INDEX = "images.json"
_Index = TypeAdapter(dict[str, object])


class OwnImages(TrainingData):
    """One split of the pictures that `keep_images` kept.

    Args:
        folder: where they are kept.
        split: TRAINING or VALIDATION.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        index = _Index.validate_json((folder / _INDEX).read_bytes())
        self.size = TypeAdapter(int).validate_python(index["size"])
        self.captions = TypeAdapter(dict[str, list[list[str]]]).validate_python(index["captions"])

    @property
    def description(self) -> str:
        """See `TrainingData.description`."""
        return f"{len(self)} images of {self.folder}, {zlib.crc32('|'.join(self.texts).encode()):08x}"

    @cached_property
    def images(self) -> UInt8[np.ndarray, "n h w 3"]:  # pyright: ignore[reportIncompatibleMethodOverride] - kept once read
        """See `TrainingData.images`. They are mapped from disk."""
        shape = (len(self), self.size, self.size, 3)
        if not len(self):  # nothing cannot be mapped
            return np.zeros(shape, np.uint8)
        return np.memmap(self.folder / f"{self.split}.bin", np.uint8, "r", shape=shape)

    @cached_property
    def texts(self) -> Sequence[str]:  # pyright: ignore[reportIncompatibleMethodOverride] - made once
        """See `TrainingData.texts`. Pictures with fewer captions than others have them several times."""
        count = self.roles.count
        return [of[i % len(of)] for of in self.captions[self.split] for i in range(count)]

    @property
    def roles(self) -> CaptionRoles:
        """See `TrainingData.roles`: each caption says what the next one says."""
        count = max((len(of) for split in self.captions.values() for of in split), default=1)
        return CaptionRoles(tuple(range(count)), tuple((i + 1) % count for i in range(count)))

    @cached_property
    def tokenizers(self) -> Tokenizers:  # pyright: ignore[reportIncompatibleMethodOverride] - trained once
        """See `TrainingData.tokenizers`: trained on the captions that are learnt from, whatever the split."""
        return trained_tokenizers([text for of in self.captions[TRAINING] for text in of])

    def __len__(self) -> int:
        return len(self.captions[self.split])


def keep_images(
    data: CaptionedData,
    image: ImageModality,
    text: TextModality,
    folder: Path,
    validation: float,
    origin: Mapping[str, object],
) -> None:
    """Keeps all pictures that have captions as squares of the size of training, unless they are kept already.

    Args:
        data: is read once.
        image: reads the pictures, and tells their size.
        text: reads the captions.
        folder: where they are kept.
        validation: share that is kept apart, chosen by their names.
        origin: what they come from; those of another origin are kept anew.

    Raises:
        ValueError: if there are not two pictures with captions to learn from.
    """
    told = {"origin": json.loads(json.dumps({**origin, "validation": validation})), "size": image.size}
    index = folder / _INDEX
    with processes().main_process_first():
        if index.exists() and _Index.validate_json(index.read_bytes()).items() >= told.items():
            return
        folder.mkdir(parents=True, exist_ok=True)
        data.skipped.begin()
        captions = _write_pictures(data, image, text, folder, validation)
        if (count := len(captions[TRAINING])) < 2:
            raise ValueError(
                f"{data.source:.300} has {count} pictures with captions to learn from, and a model from nothing needs "
                "many. Take another --start."
            )
        write_whole(index, json.dumps({**told, "captions": captions}).encode())


def _write_pictures(
    data: CaptionedData, image: ImageModality, text: TextModality, folder: Path, validation: float
) -> dict[str, list[list[str]]]:
    """Writes the pixels of each split one after the other, and returns the captions in the same order."""
    captions: dict[str, list[list[str]]] = {TRAINING: [], VALIDATION: []}
    with (folder / f"{TRAINING}.bin").open("wb") as training, (folder / f"{VALIDATION}.bin").open("wb") as apart:
        for sample in data.samples({image.name: image, text.name: text}):
            if image.name not in sample.items or text.name not in sample.items:
                data.skipped.add(sample.key, BadSample("It has no picture with a caption, as is needed here."))
                continue
            held_out = zlib.crc32(sample.key.encode(errors="replace")) / 2**32 < validation
            item = sample.items[image.name][0]
            assert isinstance(item, Tensor)
            (apart if held_out else training).write(_pixels(item, image.size).tobytes())
            texts = [str(each) for each in islice(sample.items[text.name], MOST_CAPTIONS)]
            captions[VALIDATION if held_out else TRAINING].append(texts)
    return captions


def _pixels(image: Float[Tensor, "3 h w"], size: int) -> UInt8[np.ndarray, "s s 3"]:
    return (clip_view(image, size).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
