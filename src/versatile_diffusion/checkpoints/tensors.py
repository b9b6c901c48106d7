"""Tensors that are still on disk: shapes are known, values are read through memory maps when they are asked for."""

from __future__ import annotations

import ctypes
import json
import mmap
import pickle
import sys
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from versatile_diffusion.checkpoints.errors import CheckpointError, first_few, reading, shortened

_PIECE = 2**22  # numbers that are copied at once
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


@dataclass(frozen=True)
class LazyTensor:
    """A tensor that has not been read.

    Attributes:
        shape, dtype: as stored.
        read: returns the tensor.
        mapped: whether its memory is that of a file, so that it can be given back and read again.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]
    mapped: bool = False

    @classmethod
    def of(cls, tensor: Tensor) -> LazyTensor:
        """One that has been read already."""
        return cls(tuple(tensor.shape), tensor.dtype, lambda: tensor)

    def reshape(self, *shape: int) -> LazyTensor:
        """Returns the same values in another shape."""
        return replace(self, shape=shape, read=lambda: self.read().reshape(shape))

    def nbytes(self, dtype: torch.dtype | None = None) -> int:
        """Returns its size in bytes, as stored or once it has been cast."""
        return torch.Size(self.shape).numel() * self._cast(dtype).itemsize

    def load(self, dtype: torch.dtype | None = None) -> Tensor:
        """Reads it. Floating-point numbers are cast to `dtype`, if it is given.

        A mapped tensor is copied piece by piece, and its pages are given back, so that nothing is held twice. Left
        mapped, it would need no copy, but it would lie at odd addresses, where kernels are slower and round otherwise,
        and the process would die if someone cut the file short.
        """
        tensor, dtype = self.read(), self._cast(dtype)
        if not self.mapped:
            return tensor.to(dtype)
        copy = torch.empty_like(tensor, dtype=dtype, memory_format=torch.contiguous_format)
        for target, piece in zip(
            torch.split(copy.flatten(), _PIECE), torch.split(tensor.flatten(), _PIECE), strict=True
        ):
            target.copy_(piece)
            _give_back(piece)
        return copy

    def _cast(self, dtype: torch.dtype | None) -> torch.dtype:
        return dtype if dtype is not None and self.dtype.is_floating_point else self.dtype


Tensors = Mapping[str, LazyTensor]


def open_tensors(path: Path) -> dict[str, LazyTensor]:
    """Lists the tensors of a file, or of all files that an index names, without reading them.

    Raises:
        CheckpointError: if a file is missing, damaged, a pickle of more than tensors, or of numbers in another format.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist. Download it, or pass the folder that holds it.")
    with reading(path):
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path} is empty. Download it again.")
        if path.suffix == ".json":
            return _open_index(path)
        if path.suffix == ".safetensors":
            return _open_safetensors(path)
        return _open_pickle(path)


def open_all(paths: Sequence[Path]) -> dict[str, LazyTensor]:
    """Lists the tensors of several files; see `open_tensors`."""
    return {key: tensor for path in paths for key, tensor in open_tensors(path).items()}


def _open_index(path: Path) -> dict[str, LazyTensor]:
    try:
        files: dict[str, str] = json.loads(path.read_text())["weight_map"]
        files.values()
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is not an index of weights. Download it again.") from error
    missing = sorted({name for name in files.values() if not (path.parent / name).is_file()})
    if missing:
        raise CheckpointError(f"{path} names {len(missing)} missing files ({first_few(missing)}). Download them too.")
    opened = {name: open_tensors(path.parent / name) for name in set(files.values())}
    lost = sorted(key for key, name in files.items() if key not in opened[name])
    if lost:
        raise CheckpointError(f"{path} names tensors that its files lack ({first_few(lost)}). Download them again.")
    return {key: opened[name][key] for key, name in files.items()}


def _open_safetensors(path: Path) -> dict[str, LazyTensor]:
    try:
        file = safe_open(path, framework="pt")
        keys = cast("list[str]", file.keys())  # pyright: ignore[reportUnknownMemberType] - untyped in safetensors
        return {key: _from_safetensors(file, key, path) for key in keys}
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is damaged or not a safetensors file ({shortened(error)}). Download it again."
        ) from error


def _from_safetensors(file: Any, key: str, path: Path) -> LazyTensor:
    part = file.get_slice(key)
    dtype = _DTYPES.get(part.get_dtype())
    if dtype is None:
        raise CheckpointError(
            f"{path} holds {key} as {part.get_dtype()}, which cannot be read here. Take the model in another number "
            f"format ({', '.join(_DTYPES)})."
        )
    return LazyTensor(tuple(part.get_shape()), dtype, lambda: file.get_tensor(key), mapped=True)


def _open_pickle(path: Path) -> dict[str, LazyTensor]:
    mapped = zipfile.is_zipfile(path)  # what PyTorch wrote before 1.6 cannot be mapped
    try:
        content: object = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged, or holds more than tensors. It was not read: unpickling anything else could run code. "
            "Download it again, or save its state dict alone with torch.save or safetensors."
        ) from error
    except Exception as error:  # which may be of any kind, where the bytes are anything
        raise CheckpointError(
            f"{path} is damaged or not a PyTorch file ({shortened(error)}). Download it again."
        ) from error
    entries = _entries(content)
    nested = None if entries is None else _entries(entries.get("state_dict"))
    entries = entries if nested is None else nested
    tensors = {
        key: value for key, value in (entries or {}).items() if isinstance(key, str) and isinstance(value, Tensor)
    }
    if entries is None or len(tensors) != len(entries):
        raise CheckpointError(f"{path} holds more than tensors. Save its state dict alone, and pass that file.")
    return {key: replace(LazyTensor.of(tensor.detach()), mapped=mapped) for key, tensor in tensors.items()}


def _entries(content: object) -> dict[object, object] | None:
    """The entries of a dictionary; None if it is something else."""
    return (
        cast("dict[object, object]", content) if isinstance(content, dict) else None
    )  # whose entries are then checked


def _give_back(tensor: Tensor) -> None:
    """Lets the system drop the pages of a mapped tensor. They would be read again, if they were touched again."""
    if sys.platform != "linux":
        return
    start = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
    length = (tensor.data_ptr() + tensor.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
    if length > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED)
