"""docs/memory.md: its table is what `vd bench memory` computes, and its Python blocks run."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.bench import run

PAGE = (Path(__file__).parents[2] / "docs" / "memory.md").read_text()

pytestmark = pytest.mark.slow


def test_the_table_is_what_the_benchmark_computes() -> None:
    [result] = run(["memory"], 1).results.values()
    found = {figure.name: f"{figure.median / 1e9:.2f}" for figure in result.figures}
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in _table())
    told = {f"{flow}: {row[0]}": cell for row in rows for flow, cell in zip(header[1:], row[1:], strict=True)}
    assert len(told) == 45 and told.items() <= found.items()
    too_large = [figure.name for figure in result.figures if figure.reached is False]
    assert too_large == ["all flows: GPU, fp32"]


def test_the_python_blocks_run() -> None:
    names: dict[str, Any] = {"torch": torch, "VersatileDiffusionPipeline": VersatileDiffusionPipeline}
    for code in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(code, "memory.md", "exec"), names)
    made = names["pipe"].text_to_image(["a red tent", "a tree"], num_inference_steps=2)
    assert [picture.size for picture in made.images] == [(64, 64)] * 2


def _table() -> list[str]:
    return re.findall(r"^\|.*\|$", PAGE.split("## ")[0], flags=re.MULTILINE)
