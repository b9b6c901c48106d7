"""A folder of images with their texts in a metadata.jsonl, as Hugging Face's "imagefolder" has them, to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
from filelock import FileLock
from jaxtyping import UInt8
from numpy.lib.format import open_memmap
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from rich.progress import track

from versatile_diffusion.files import read_lines
from versatile_diffusion.training.tasks.data import CaptionRoles, TrainingData

METADATA = "metadata.jsonl"

_LINE, _TEXTS = TypeAdapter(dict[str, object]), TypeAdapter(tuple[str, ...])


class CaptionedFolder(TrainingData):
    """Images of one size, each with a line in metadata.jsonl: its `file_name`, its `texts`, and what else is known.

    Args:
        folder: with the images and metadata.jsonl.
        kept: where the images are kept as one array, from which they are read while a model learns.
        roles: of the texts of each image.
        limit: takes only so many images, the first ones.

    Raises:
        FileNotFoundError: if there is no metadata.jsonl.
        ValueError: if a line does not name a file, or has not as many texts as there are roles.
    """

    def __init__(self, folder: Path, kept: Path, roles: CaptionRoles | None = None, limit: int | None = None) -> None:
        self.folder, self.kept, self._roles, self.limit = folder, kept, roles or CaptionRoles(), limit
        if not (folder / METADATA).is_file():
            raise FileNotFoundError(f"{folder} has no {METADATA}, which names its images and their texts.")

    @cached_property
    def lines(self) -> list[Mapping[str, object]]:
        """What is known of each image."""
        read = read_lines(self.folder / METADATA)[: self.limit]
        return [
            _line(text, f"{self.folder / METADATA}, line {i + 1}", self._roles.count) for i, text in enumerate(read)
        ]

    def __len__(self) -> int:
        """See `TrainingData.__len__`: the images need not be read to count them."""
        return len(self.lines)

    @property
    def description(self) -> str:
        """See `TrainingData.description`."""
        return f"{len(self)} images, metadata {self._checksum}"

    @property
    def images(self) -> UInt8[np.ndarray, "n h w 3"]:
        """See `TrainingData.images`. They are read when they are first asked for."""
        return self._images

    @property
    def texts(self) -> Sequence[str]:
        """See `TrainingData.texts`."""
        return self._texts

    @property
    def roles(self) -> CaptionRoles:
        """See `TrainingData.roles`."""
        return self._roles

    @cached_property
    def _texts(self) -> list[str]:
        return [text for line in self.lines for text in _texts(line)]

    @cached_property
    def _checksum(self) -> str:
        return sha256((self.folder / METADATA).read_bytes()).hexdigest()[:12]

    @cached_property
    def _images(self) -> UInt8[np.ndarray, "n h w 3"]:
        """Memory-mapped; written whole or not at all, by one process while all others that need it wait."""
        path = self.kept / f"{self.folder.name}-{self._checksum}-{len(self)}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                self._write_images(path)
        return np.load(path, mmap_mode="r")

    def _write_images(self, path: Path) -> None:
        unfinished = path.with_suffix(".unfinished")
        shape = (len(self), *_pixels(self.folder / str(self.lines[0]["file_name"])).shape)
        array = open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
        for i, line in enumerate(track(self.lines, f"reading {self.folder.name}")):
            array[i] = _pixels(self.folder / str(line["file_name"]))
        array.flush()
        unfinished.replace(path)


def _line(text: str, where: str, count: int) -> Mapping[str, object]:
    try:
        line = _LINE.validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{where} is no object of JSON: {error.errors()[0]['msg']}.") from error
    if not isinstance(line.get("file_name"), str):
        raise ValueError(f"{where} names no file: it needs a file_name.")
    if (found := len(_texts(line))) != count:
        raise ValueError(f"{where} has {found} texts where {count} are expected.")
    return line


def _texts(line: Mapping[str, object]) -> tuple[str, ...]:
    return _TEXTS.validate_python(line.get("texts", ()))


def _pixels(file: Path) -> UInt8[np.ndarray, "h w 3"]:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))
