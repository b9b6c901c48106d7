from pathlib import Path

import pytest
from transformers.utils.import_utils import define_import_structure

from versatile_diffusion import import_cache
from versatile_diffusion.import_cache import Names, kept

FOUND: Names = {
    frozenset(): {"models.clip": {"CLIPConfig"}},
    frozenset({"torch", "vision"}): {"models.bert": {"BertModel", "BertLayer"}},
}


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return []


def find(installation: Path, calls: list[Path]) -> Names:
    folder = installation / "models"
    folder.mkdir(exist_ok=True)

    def define(module_path: Path, prefix: str | None = None) -> Names:
        calls.append(module_path)
        return FOUND

    return kept(define)(folder, "models")


def test_names_are_found_once(tmp_path: Path, calls: list[Path]) -> None:
    assert [find(tmp_path, calls) for _ in range(3)] == [FOUND] * 3
    assert calls == [tmp_path / "models"]


def test_they_are_found_anew_in_another_installation(tmp_path: Path, calls: list[Path]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    assert find(tmp_path, calls) == find(other, calls) == FOUND
    assert calls == [tmp_path / "models", other / "models"]


@pytest.mark.parametrize("damage", [b"", b"[[1, 2]]", b'{"a": 1}', b"\xff", b"[[[], []]]"])
def test_a_damaged_file_is_written_anew(tmp_path: Path, calls: list[Path], damage: bytes) -> None:
    find(tmp_path, calls)
    (file,) = import_cache.user_cache().iterdir()
    file.write_bytes(damage)
    assert [find(tmp_path, calls) for _ in range(2)] == [FOUND] * 2
    assert len(calls) == 2


def test_nothing_is_lost_where_nothing_can_be_kept(
    tmp_path: Path, calls: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [find(tmp_path, calls) for _ in range(2)] == [FOUND] * 2


def test_what_is_kept_of_transformers_is_what_it_finds(tmp_path: Path, calls: list[Path]) -> None:
    import transformers

    folder = Path(transformers.__file__).parent / "models"
    found = define_import_structure(folder, "models")
    assert kept(define_import_structure)(folder, "models") == kept(define_import_structure)(folder, "models") == found
