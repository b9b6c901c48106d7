from typing import Any

import pytest
import torch

from versatile_diffusion import Context

_EMBEDDING = torch.zeros(1, 2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either data or an embedding"),
        ({"data": "a", "embedding": _EMBEDDING}, "either data or an embedding"),
        ({"data": "a", "weight": -0.1}, "weight must be 0 or more, got -0.1"),
        ({"data": "a", "weight": float("nan")}, "weight must be 0 or more"),
        ({"data": "a", "weight": float("inf")}, "weight must be 0 or more"),
        ({"data": "a", "focus": 1.2}, "focus must lie between 0"),
        ({"data": "a", "focus": -1}, "focus must lie between 0"),
        ({"embedding": _EMBEDDING, "mask": torch.ones(2, 2)}, "not an embedding"),
        ({"embedding": torch.full((1, 5, 24), torch.nan)}, "text embedding holds values that are NaN or infinite"),
        ({"embedding": [[["a"]]]}, "text embedding must be a tensor or an array of numbers"),
        ({"embedding": torch.zeros(1, 2, 3, dtype=torch.complex64)}, "embedding must hold numbers, got complex64"),
        ({"data": "a", "unconditional": "zero"}, '"default", "zeros" or an embedding'),
    ],
)
def test_what_makes_no_context(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Context("text", **options)


def test_an_empty_text_is_data() -> None:
    assert Context("text", "").data == ""
