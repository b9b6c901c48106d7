# pyright: strict
"""Files of embeddings: read by name, and written row by row."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] - typed in part
from torch import Tensor

from versatile_diffusion.arrays import as_tensor
from versatile_diffusion.files import quoted, require_file
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.validation import shortened

AXES = {
    IMAGE.name: "(scans, tokens, width)",
    TEXT.name: "(scans, tokens, width)",
    "start": "(scans, channels, height, width)",
}

_LONGEST_HEADER = 99_999_992  # bytes; safetensors reads no longer ones
_DTYPES = {torch.float32: "F32", torch.float16: "F16"}


def read_embeddings(file: Path) -> dict[str, Tensor]:
    """Reads predicted embeddings: image and text, at least one of them, and perhaps latents to start from.

    Args:
        file: .npz, or .safetensors. Pickles are refused.

    Returns:
        "image" and "text" (scans n d), "start" (scans c y x), as far as they are there.

    Raises:
        ValueError: if the file cannot be read, or an array is not as expected; the message says what is.
    """
    if file.suffix.lower() not in (".npz", ".safetensors"):
        raise ValueError(f"Embeddings come in a .npz or .safetensors file, not in {quoted(file)}.")
    arrays = read_arrays(file)
    expected = ", ".join(f"{name} {axes}" for name, axes in AXES.items())
    if unknown := sorted(set(arrays) - set(AXES)):
        held = shortened(", ".join(unknown), 300)
        raise ValueError(f"{quoted(file)} holds {held}; expected are {expected}: rename or remove the others.")
    if not arrays.keys() & {IMAGE.name, TEXT.name}:
        raise ValueError(f"{file} holds no embeddings; expected are {expected}, image or text at least.")
    for name, array in arrays.items():
        if array.ndim != AXES[name].count(",") + 1 or 0 in array.shape:
            raise ValueError(f"{name} in {quoted(file)} must have shape {AXES[name]}, got {tuple(array.shape)}.")
    if len({len(array) for array in arrays.values()}) > 1:
        listed = ", ".join(f"{name}: {len(array)}" for name, array in arrays.items())
        raise ValueError(f"The arrays in {file} must hold the same scans in the same order, got {listed}.")
    return arrays


def read_arrays(file: Path) -> dict[str, Tensor]:
    """Reads the arrays in a .safetensors, .npz or .npy file; see `as_tensor`.

    Returns:
        The arrays by their names, of which the last kind of file has none.

    Raises:
        ValueError: if it is none of these, is damaged, or holds anything but finite numbers. Pickles are refused.
    """
    require_file(file)
    try:
        found = _loaded(file)
    except Exception as error:  # whatever NumPy and safetensors make of a damaged file
        raise ValueError(
            f"Cannot read arrays from {quoted(file)}: {str(error) or type(error).__name__:.300}. Save them as arrays "
            "of numbers, with numpy.savez or as safetensors."
        ) from error
    return {name: as_tensor(array, f"{name or 'the array'} in {quoted(file)}") for name, array in found.items()}


def _loaded(file: Path) -> Mapping[str, object]:
    if file.suffix.lower() == ".safetensors":
        return load_file(file)  # pyright: ignore[reportUnknownVariableType] - typed in part in safetensors
    loaded: NpzFile | NDArray[np.generic] = np.load(file, allow_pickle=False)
    if isinstance(loaded, np.ndarray):
        return {"": loaded}
    with loaded as arrays:
        return {name: arrays[name] for name in arrays.files}


@dataclass(frozen=True)
class RowFile:
    """A safetensors file of one tensor, written some rows at a time.

    safetensors itself writes tensors as a whole. Its `save_file` of a memory-mapped file would take the room twice, and
    could not tell how far a run had come; here the length of the file does.

    Until it is whole, it grows under the name with `.unfinished` added, where a later run goes on.

    Attributes:
        path: of the whole file.
        name: of the tensor.
        shape: of the tensor, rows first.
        dtype: float32 or float16.
        metadata: kept in the file. What must be equal for a run to go on belongs here.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def unfinished(self) -> Path:
        """Where the rows are until there are all of them."""
        return self.path.with_name(f"{self.path.name}.unfinished")

    def write(self, rows: Callable[[int, int], Float[Tensor, "b *rest"]], batch_size: int) -> Iterator[int]:
        """Writes the rows that are missing, `batch_size` at a time, and yields how many there are now.

        Args:
            rows: (first, end) -> those rows.
            batch_size: rows held in memory. A run that goes on makes the same batches.

        Raises:
            FileExistsError: if there is an unfinished file of something else.
        """
        header = self._header
        first = self._whole_rows() // batch_size * batch_size
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.unfinished.touch()
        with self.unfinished.open("r+b") as file:
            file.write(header)
            file.seek(first * self._row_bytes, os.SEEK_CUR)
            file.truncate()
            yield first
            for start in range(first, self.shape[0], batch_size):
                batch = rows(start, min(start + batch_size, self.shape[0]))
                file.write(_bytes(batch.to("cpu", self.dtype)))
                file.flush()
                os.fsync(file.fileno())
                yield start + len(batch)
        self.unfinished.replace(self.path)

    @property
    def _row_bytes(self) -> int:
        return int(np.prod(self.shape[1:])) * self.dtype.itemsize

    @property
    def _header(self) -> bytes:
        entry = {
            "dtype": _DTYPES[self.dtype],
            "shape": list(self.shape),
            "data_offsets": [0, self.shape[0] * self._row_bytes],
        }
        text = json.dumps({"__metadata__": dict(self.metadata), self.name: entry}).encode()
        if len(text) > _LONGEST_HEADER:
            raise ValueError(f"The metadata of {self.path} is too long for safetensors: split the data into several.")
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    def _whole_rows(self) -> int:
        """How many whole rows the unfinished file holds."""
        if not self.unfinished.exists():
            return 0
        header = self._header
        with self.unfinished.open("rb") as file:
            found = file.read(len(header))
        if not header.startswith(found):
            raise FileExistsError(
                f"{self.unfinished} was begun with other data or settings: go on with those, or remove it."
            )
        return max(0, self.unfinished.stat().st_size - len(header)) // self._row_bytes


def _bytes(tensor: Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()
