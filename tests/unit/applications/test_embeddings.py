from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from versatile_diffusion.applications import embeddings
from versatile_diffusion.applications.embeddings import RowFile

ROWS = torch.arange(5 * 3 * 2.0).reshape(5, 3, 2)


def file(path: Path, **changes: object) -> RowFile:
    arguments = {"name": "image", "shape": (5, 3, 2), "dtype": torch.float32, "metadata": {"names": "été"}} | changes
    return RowFile(path / "x.safetensors", **arguments)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 9])
def test_rows_are_read_back_by_safetensors(tmp_path: Path, dtype: torch.dtype, batch_size: int) -> None:
    largest = 0

    def rows(first: int, end: int) -> Tensor:
        nonlocal largest
        largest = max(largest, end - first)
        return ROWS[first:end]

    assert list(file(tmp_path, dtype=dtype).write(rows, batch_size))[-1] == 5
    assert largest == min(batch_size, 5)
    assert torch.equal(load_file(tmp_path / "x.safetensors")["image"], ROWS.to(dtype))
    with safe_open(tmp_path / "x.safetensors", "pt") as opened:
        assert opened.metadata() == {"names": "été"}
        assert torch.equal(opened.get_slice("image")[1:3], ROWS[1:3].to(dtype))


def test_what_was_written_is_not_computed_again(tmp_path: Path) -> None:
    def rows(first: int, end: int) -> Tensor:
        if first >= 4:
            raise RuntimeError("out of memory")
        return ROWS[first:end]

    with pytest.raises(RuntimeError, match="out of memory"):
        list(file(tmp_path).write(rows, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors.unfinished"]
    assert list(file(tmp_path).write(lambda first, end: ROWS[first:end], 2)) == [4, 5]
    assert torch.equal(load_file(tmp_path / "x.safetensors")["image"], ROWS)


@pytest.mark.parametrize("changes", [{"shape": (6, 3, 2)}, {"name": "text"}, {"metadata": {}}, {"dtype": torch.half}])
def test_other_data_is_not_added_to_what_was_begun(tmp_path: Path, changes: dict[str, object]) -> None:
    next(file(tmp_path).write(lambda first, end: ROWS[first:end], 2))
    with pytest.raises(FileExistsError, match="begun with other data or settings"):
        next(file(tmp_path, **changes).write(lambda first, end: ROWS[first:end], 2))


def test_metadata_that_safetensors_would_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_LONGEST_HEADER", 50)
    with pytest.raises(ValueError, match="too long for safetensors"):
        next(file(tmp_path).write(lambda first, end: ROWS[first:end], 2))
    assert not list(tmp_path.iterdir())
