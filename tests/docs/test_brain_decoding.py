"""The blocks of docs/brain-decoding.md marked <!-- test --> run as they stand, on a tiny model."""

import re
import shlex
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator
from typer.testing import CliRunner

from tests.conftest import CAPTIONS
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app
from versatile_diffusion.modalities import ImageModality, TextModality

PAGE = Path(__file__).parents[2] / "docs" / "brain-decoding.md"
BLOCKS = re.findall(r"<!-- test -->\n```(\w+)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [line for language, code in BLOCKS if language == "bash" for line in code.splitlines()]


def run(code: str, **names: Any) -> dict[str, Any]:
    exec(compile(code, str(PAGE), "exec"), names)
    return names


def test_the_commands_and_the_file_they_write(
    pipe: VersatileDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe.save_pretrained(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    Path("pictures").mkdir()
    for name, color in (("b.png", "red"), ("a.png", "blue")):
        Image.new("RGB", (32, 32), color).save(Path("pictures", name))
    Path("captions.txt").write_text("\n".join(CAPTIONS[:2]))
    for command in COMMANDS:
        if "reconstruct" in command:
            image, text = torch.randn(1, 5, 24), torch.randn(1, 16, 24)
            np.savez("embeddings.npz", image=image.numpy(), text=text.numpy(), start=torch.randn(1, 4, 16, 16).numpy())
        words = [*shlex.split(command.removeprefix("vd ")), "--model", "model"]
        result = CliRunner().invoke(app, [*words, *(["-n", "1", "--steps", "4"] if "reconstruct" in command else [])])
        assert result.exit_code == 0, result.output
    assert len(COMMANDS) == 4 and len(list(Path().glob("pictures-*/scan-0000-seed-0.png"))) == 2
    names = run(PYTHON[0])
    assert names["names"] == ["a.png", "b.png"] and names["first"].shape == (1, 5, 24)


@torch.no_grad()
def test_the_tokens_are_the_pipelines(pipe: VersatileDiffusionPipeline) -> None:
    names = run(PYTHON[1])
    image, text = cast(ImageModality, pipe.modalities["image"]), cast(TextModality, pipe.modalities["text"])
    assert image.context_encoder is not None and text.context_encoder is not None
    pixels = torch.randn(2, 3, 28, 28, generator=Generator().manual_seed(0))
    actual = names["image_tokens"](image.context_encoder.model, pixels)
    torch.testing.assert_close(actual, image.context_encoder(pixels))
    ids = text.context_ids(CAPTIONS)
    torch.testing.assert_close(names["text_tokens"](text.context_encoder.model, ids), text.embed(CAPTIONS))


def test_the_pipeline_reconstructs(pipe: VersatileDiffusionPipeline) -> None:
    scans = {"image": torch.randn(2, 5, 24), "text": torch.randn(2, 16, 24), "start": torch.randn(2, 4, 16, 16)}
    names = run(PYTHON[2], pipe=pipe, **scans)
    assert [picture.size for picture in names["best"]] == [(32, 32)] * 2
    assert len(PYTHON) == 3


def test_sizes_of_the_bundled_model() -> None:
    from versatile_diffusion.model_presets import vd_four_flow
    from versatile_diffusion.worlds.postcards.recipe import postcards

    row = {"official": vd_four_flow(), "bundled": postcards()}
    for name, (image, text) in {"official": ("257 × 768", "77 × 768"), "bundled": ("65 × 96", "40 × 96")}.items():
        vision, words = row[name].image.context_encoder, row[name].text.context_encoder
        assert vision is not None
        tokens = 1 + (vision["image_size"] // vision["patch_size"]) ** 2
        assert image == f"{tokens} × {vision['projection_dim']}"
        assert text == f"{words['max_position_embeddings']} × {words['projection_dim']}"
        assert image in PAGE.read_text() and text in PAGE.read_text()


@pytest.mark.parametrize("low", [0, 40])
def test_pictures_in_any_form_give_the_same_embedding(pipe: VersatileDiffusionPipeline, low: int) -> None:
    levels = torch.randint(low, 256, (30, 40, 3), generator=Generator().manual_seed(0), dtype=torch.uint8)
    expected = pipe.encode_context("image", Image.fromarray(levels.numpy()))
    floats = levels.permute(2, 0, 1) / 255
    for form in (levels.numpy(), levels, floats, floats.numpy(), floats.double()):
        assert torch.equal(pipe.encode_context("image", form), expected)
    for wrong in (2 * floats - 1, 255 * floats):
        with pytest.raises(ValueError, match="must lie in"):
            pipe.encode_context("image", wrong)
