"""`vd edit`."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.cli.test_cli import empty_folder, make, pixels  # noqa: F401
from versatile_diffusion import VersatileDiffusionPipeline

pytestmark = pytest.mark.usefixtures("photo")


@pytest.fixture
def photo(empty_folder: Path) -> None:  # noqa: F811
    level = np.random.default_rng(0).integers(0, 255, (28, 28, 3), dtype=np.uint8)
    Image.fromarray(level).save("photo.png")


@pytest.mark.parametrize("method", ["rewrite", "latent"])
def test_makes_what_the_library_makes(model: Path, method: str) -> None:
    words = ["--remove", "house", "--add", "tent", "--method", method, "--strength", 0.5]
    result = make(model, "edit", "photo.png", *words, "--seed", 1, "-o", "edited.png", "--json")
    assert result.exit_code == 0, result.output
    pipe, seed = VersatileDiffusionPipeline.from_pretrained(model), torch.Generator().manual_seed(1)
    expected = pipe.edit(
        "photo.png", remove="house", add="tent", method=method, strength=0.5, num_inference_steps=2, generator=seed
    )
    assert (pixels("edited.png") == np.asarray(expected.images[0])).all()
    (made,) = json.loads(result.stdout)
    assert (made["remove"], made["add"], made["method"], made["strength"]) == ("house", "tent", method, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Nothing to change"),
        (["--add", "tent", "--method", "magic"], "magic"),
        (["--add", "tent", "--text-share", "0"], "text_share"),
        (["--add", "tent", "--strength", "1.5"], "strength"),
    ],
)
def test_what_cannot_be_done_is_explained(model: Path, options: list[str], message: str) -> None:
    result = make(model, "edit", "photo.png", *options)
    assert result.exit_code != 0 and message in result.output
    assert "Traceback" not in result.output
