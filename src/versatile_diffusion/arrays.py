"""Arrays of users: whatever is like an array means the same wherever one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeGuard, cast

if TYPE_CHECKING:  # PyTorch takes seconds, which what only asks need not wait for
    from numpy.typing import NDArray
    from torch import Tensor


_WIDER = {"b": "?", "c": "complex64"}
"""What else than float32 other types become, so that they can be named."""


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """Tells whether it is a tensor, without importing PyTorch."""
    return any(cls.__module__ == "torch" and cls.__name__ == "Tensor" for cls in type(value).__mro__)


def as_tensor(value: object, name: str) -> Tensor:
    """Returns a tensor of finite floating-point numbers.

    Args:
        value: a tensor on any device, a numpy array of any type of integers or floating-point numbers, byte order and
            layout, nested lists of numbers or of tensors, or whatever else numpy takes for an array. Integers, float64
            and floats of 8 bits become float32; other floating-point tensors stay as they are, gradients included.
        name: what the array is, for messages.

    Raises:
        ValueError: if it is no array of numbers, or holds values that are NaN or infinite.
    """
    import torch

    tensor = _tensor(value, name)
    if tensor.is_meta or tensor.is_quantized:
        raise ValueError(f"{name} must be a tensor that holds its values.")
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise ValueError(f"{name} must hold numbers, got {str(tensor.dtype).removeprefix('torch.')}.")
    if tensor.layout is not torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32):
        tensor = tensor.float()
    if not tensor.isfinite().all():
        raise ValueError(f"{name} holds values that are NaN or infinite.")
    return tensor


def _tensor(value: object, name: str) -> Tensor:
    """The tensor itself, tensors in a list as one, or what numpy makes of anything else."""
    import torch

    several = isinstance(value, list | tuple)
    given = cast("Sequence[object]", value) if several else (value,)
    tensors = [each for each in given if is_tensor(each)]
    if not len(tensors) == len(given) > 0:
        return torch.as_tensor(_array(value, name))
    if not several:
        return tensors[0]
    if len({each.shape for each in tensors}) > 1:
        raise ValueError(f"{name} must be a rectangle of numbers, got {_listed(tensors)}.")
    try:
        return torch.stack(tensors)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{name} must be an array, and its tensors do not go together: {error}.") from error


def _listed(tensors: Sequence[Tensor]) -> str:
    shapes = list(dict.fromkeys(str(tuple(each.shape)) for each in tensors))
    return f"tensors of shapes {', '.join(shapes[:3])}{', …' if len(shapes) > 3 else ''}"


def _array(value: object, name: str) -> NDArray[Any]:
    """A numpy array of native floating-point numbers, whose memory PyTorch can share."""
    import numpy as np

    try:
        array = np.asarray(value)
        if array.dtype.kind in "OSUMm":
            raise TypeError(f"it is {type(value).__name__} of {array.dtype}")
        kept = array.dtype.kind == "f" and array.dtype.itemsize in (2, 4)
        native = array.dtype.newbyteorder("=") if kept else _WIDER.get(array.dtype.kind, "float32")
        return np.ascontiguousarray(array, native)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name} must be a tensor or an array of numbers: {error}.") from error


def are_levels(numbers: object) -> bool:
    """Tells whether it is an array of 8-bit levels."""
    return str(getattr(numbers, "dtype", "")).endswith("uint8")
