import pytest

from tests.parity import golden
from versatile_diffusion.modalities.phrases import remove_repetition


@pytest.mark.parametrize(("text", "expected"), golden.read("dedup").config.items())
def test_golden_texts_without_repetition(text: str, expected: str) -> None:
    assert remove_repetition(text) == expected
