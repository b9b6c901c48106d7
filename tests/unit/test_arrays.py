"""Whatever is like an array means the same."""

from typing import Any

import numpy as np
import pytest
import torch

from versatile_diffusion.arrays import as_tensor

_VALUES = np.arange(24).reshape(2, 3, 4)
_EXPECTED = torch.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "g", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_numpy_arrays_of_any_type_and_byte_order(dtype: str, order: Any) -> None:
    array = _VALUES.astype(np.dtype(dtype).newbyteorder(order))
    made = as_tensor(array, "it")
    assert made.dtype in (torch.float16, torch.float32)
    assert torch.equal(made.float(), _EXPECTED)


@pytest.mark.parametrize(
    "value",
    [
        np.asfortranarray(_VALUES.astype("f4")),
        _VALUES.astype("f4")[::-1][::-1],
        np.broadcast_to(_VALUES.astype("f4"), (2, 3, 4)),
        _VALUES.tolist(),
        [torch.arange(12.0).reshape(3, 4), torch.arange(12.0, 24.0).reshape(3, 4)],
        _EXPECTED.double(),
        _EXPECTED.long(),
        _EXPECTED.bfloat16(),
        _EXPECTED.transpose(0, 2).contiguous().transpose(0, 2),
        _EXPECTED.to_sparse(),
        [[[0, 1.0, 2, 3], range(4, 8), (8, 9, 10, 11)], np.arange(12, 24).reshape(3, 4)],
    ],
)
def test_layouts_lists_and_tensors(value: Any) -> None:
    assert torch.equal(as_tensor(value, "it").float(), _EXPECTED)


def test_floats_of_eight_bits() -> None:
    assert torch.equal(as_tensor(torch.tensor([[0.5, -2]]).to(torch.float8_e5m2), "it"), torch.tensor([[0.5, -2]]))


def test_gradients_stay() -> None:
    tensor = torch.ones(2, 3, requires_grad=True)
    as_tensor(tensor, "it").sum().backward()
    assert tensor.grad is not None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("words", "it must be a tensor or an array of numbers"),
        ([[1, 2], [3]], "it must be a tensor or an array of numbers"),
        ([torch.ones(2, 3), torch.ones(3)], r"it must be a rectangle of numbers, got .* \(2, 3\), \(3,\)"),
        (object(), "it must be a tensor or an array of numbers"),
        (np.array([True]), "it must hold numbers, got bool"),
        (np.array([1j]), "it must hold numbers, got complex64"),
        (np.array([np.nan]), "it holds values that are NaN or infinite"),
        (np.array([1e300]), "it holds values that are NaN or infinite"),
    ],
)
def test_what_is_no_array_is_named(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_tensor(value, "it")
