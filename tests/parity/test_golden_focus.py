import pytest

from tests.parity import golden
from versatile_diffusion.modalities.focus import adjust_focus

_TENSORS = golden.read("focus").tensors


@pytest.mark.parametrize("name", sorted(name for name in _TENSORS if name.startswith("focus.")))
def test_golden_focus(name: str) -> None:
    adjusted = adjust_focus(_TENSORS["context"], float(name.removeprefix("focus.")))
    assert golden.relative_error(adjusted, _TENSORS[name]) < 1e-3
