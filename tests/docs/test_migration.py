"""All blocks of docs/migration.md run as they stand, on a tiny model and in few steps."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from versatile_diffusion import VersatileDiffusionPipeline, compat

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_the_page_has_these_blocks() -> None:
    assert [language for language, _ in BLOCKS] == ["python", "python"]


def test_the_import() -> None:
    assert run(BLOCKS[0][1])["VersatileDiffusionPipeline"] is compat.VersatileDiffusionPipeline
    assert all(f"`{name}`" in PAGE.read_text() for name in compat.__all__ if name != "VersatileDiffusionPipeline")


def test_the_reconstruction(pipe: VersatileDiffusionPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, made = VersatileDiffusionPipeline.generate, []

    def short(self: VersatileDiffusionPipeline, *arguments: Any, **options: Any) -> Any:
        made.append(whole(self, *arguments, **{**options, "num_inference_steps": 4}))
        return made[-1]

    monkeypatch.setattr(VersatileDiffusionPipeline, "generate", short)
    predicted = {"predicted_image": torch.randn(2, 5, 24), "predicted_text": torch.randn(2, 16, 24)}
    run(BLOCKS[1][1], pipe=pipe, latents=torch.randn(2, 4, 16, 16), **predicted)
    assert sum(len(outputs.images) for outputs in made) == 2 * 8
