"""The notebooks of examples/ run from top to bottom, with little of everything that takes long."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"
SHORT = {
    "flows": "STEPS = 2",
    "train": "STEPS = 2; SAMPLING_STEPS = 2",
    "brain_decoding": "PICTURES = 12; STEPS, OUTPUTS = 2, 2",
}
"""What is put after the parameters of each."""
SHOWN = {"flows": 4, "train": 2, "brain_decoding": 2}
"""How many pictures each shows."""


def cells(name: str) -> list[Any]:
    return json.loads((EXAMPLES / f"{name}.ipynb").read_text())["cells"]


def run(code: str, names: dict[str, Any]) -> object:
    """What a cell shows: the value of its last expression."""
    *statements, last = ast.parse(code).body
    exec(compile(ast.Module(statements, []), "cell", "exec"), names)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    exec(compile(ast.Module([last], []), "cell", "exec"), names)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_it_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    shown: list[object] = []
    for cell in cells(name):
        if cell["cell_type"] == "code":
            shown.append(run("".join(cell["source"]), names))
        if "parameters" in cell["metadata"].get("tags", []):
            run(SHORT[name], names)
    assert sum(isinstance(one, Image.Image) for one in shown) == SHOWN[name]
    assert names["STEPS"] == 2, "nothing after the parameters says again how long it takes"


def test_all_are_tried_and_kept_without_outputs() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.ipynb")} == set(SHORT)
    for name in SHORT:
        first, *others = cells(name)
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in others)
        assert "With the official model" in "".join(first["source"])
