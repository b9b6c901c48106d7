"""What CONTRIBUTING.md names is there, and every script that a page names."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`([\w./-]+)`", (ROOT / "CONTRIBUTING.md").read_text())
FILES = sorted({name for name in NAMED if re.fullmatch(r"[\w./-]+(/|\.(py|md|txt|toml))", name)})
OBJECTS = sorted(
    {name for name in NAMED if re.fullmatch(r"(training|worlds|modalities)(\.\w+)+", name) and "/" not in name}
)
PLACES = (ROOT, ROOT / "src" / "versatile_diffusion", ROOT / "src" / "versatile_diffusion" / "training")


@pytest.mark.parametrize("name", FILES)
def test_a_file_or_room_is_there(name: str) -> None:
    assert any((place / name).exists() for place in PLACES)


@pytest.mark.parametrize("name", [name for name in OBJECTS if not name.endswith(".py")])
def test_an_object_is_there(name: str) -> None:
    module, _, attribute = f"versatile_diffusion.{name}".rpartition(".")
    assert hasattr(import_module(module), attribute)


def test_both_kinds_are_found() -> None:
    assert "worlds/base.py" in FILES and "training.tasks.data.TrainingData" in OBJECTS


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_a_script_is_there(page: Path) -> None:
    named = set(re.findall(r"\b(?:benchmarks|examples)/\w+\.(?:py|ipynb)", page.read_text()))
    assert [script for script in sorted(named) if not (ROOT / script).is_file()] == []
