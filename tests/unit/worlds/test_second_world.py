"""A world that is an installed package's: `vd` trains it, measures it, opens its model, and the studio shows it."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image
from pydantic.dataclasses import dataclass as checked
from rich.table import Table
from typer.testing import CliRunner, Result

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.bundled import GROUP
from versatile_diffusion.cli import app
from versatile_diffusion.diffuser import DiffuserConfig
from versatile_diffusion.model_presets import (
    ImagePreset,
    Preset,
    TextPreset,
    clip_text,
    clip_vision,
    kl_autoencoder,
    optimus,
)
from versatile_diffusion.provenance import png
from versatile_diffusion.studio.examples import examples_of
from versatile_diffusion.training.loop.task import AtLeastOne, Count, TrainingConfig
from versatile_diffusion.training.stages.card import CardTexts
from versatile_diffusion.training.stages.model_recipe import CONFIG, ModelRecipe
from versatile_diffusion.training.stages.model_training import ModelTraining
from versatile_diffusion.training.stages.names import MODEL, STAGES
from versatile_diffusion.training.stages.training_run import TrainingRun
from versatile_diffusion.training.tasks.data import TrainingData
from versatile_diffusion.worlds.base import (
    Evaluation,
    EvaluationRequest,
    ExampleImage,
    TrainingRequest,
    World,
    WorldExample,
    WorldReport,
    WorldSample,
)
from versatile_diffusion.worlds.registry import find_world, get_world

COLORS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200)}
SIZE = 32


def painted(name: str, size: int = SIZE) -> UInt8[ndarray, "size size 3"]:
    return np.full((size, size, 3), COLORS[name], dtype=np.uint8)


class ColorData(TrainingData):
    """Plain images, and their only text: the colour."""

    def __init__(self, count: int) -> None:
        self.names = [list(COLORS)[i % len(COLORS)] for i in range(count)]

    @property
    def description(self) -> str:
        return f"{len(self.names)} colors"

    @property
    def images(self) -> UInt8[ndarray, "n h w 3"]:
        return np.stack([painted(name) for name in self.names])

    @property
    def texts(self) -> Sequence[str]:
        return self.names


def preset() -> Preset:
    words = len(COLORS)
    return Preset(
        DiffuserConfig(32, (1, 2), (1, 1), (True, False), num_heads=4),
        {
            "image": ImagePreset(
                kl_autoencoder(channels=(8, 16), layers=1, size=SIZE, groups=8),
                clip_vision(width=16, layers=1, size=SIZE, patch=16, projection=16, heads=2),
            ),
            "text": TextPreset(
                optimus(16, 1, pieces=words + 4, tokens=words + 4, latent=16, positions=(8, 8), heads=2),
                clip_text(16, 1, tokens=words + 3, positions=8, projection=16, heads=2),
                latent_dim=16,
            ),
        },
    )


STAGE = TrainingConfig(2, 4, 1e-3, warmup_steps=1)


@checked(frozen=True, config=CONFIG, kw_only=True)
class ColorRecipe(ModelRecipe):
    preset: Preset = field(default_factory=preset)
    images: AtLeastOne = 12
    seed: Count = 0
    kl: TrainingConfig = STAGE
    clip: TrainingConfig = STAGE
    optimus: TrainingConfig = STAGE
    one_flow: TrainingConfig = STAGE
    two_flow: TrainingConfig = STAGE
    four_flow: TrainingConfig = STAGE
    validation_images: int = 64


class ColorTraining(ModelTraining):
    @property
    def card_texts(self) -> CardTexts:
        return CardTexts(
            "Colors", "Plain colors. ", "12 colors", "64 colors", "vd evaluate colors", "It knows three.\n"
        )


@dataclass(frozen=True)
class ColorReport(WorldReport):
    request: EvaluationRequest
    right: float
    shown: Image.Image

    def tables(self) -> Sequence[Table]:
        return [Table(title=f"{self.right:.0%} right")]

    def as_dict(self) -> Mapping[str, object]:
        return {"right": self.right, "num": self.request.num}

    def drawing(self) -> bytes:
        return png(self.shown)


def measure(pipe: VersatileDiffusionPipeline, request: EvaluationRequest) -> ColorReport:
    asked = [list(COLORS)[i % len(COLORS)] for i in range(request.num)]
    generators = [torch.Generator().manual_seed(request.seed + i) for i in range(request.num)]
    made = pipe.text_to_image(asked, num_inference_steps=request.steps, generator=generators).images
    seen = [int(np.asarray(image).mean((0, 1)).argmax()) for image in made]
    right = [seen == list(COLORS).index(name) for seen, name in zip(seen, asked, strict=True)]
    return ColorReport(request, sum(right) / len(right), made[0])


class ColorWorld(World):
    def recipe(self) -> ModelRecipe:
        return ColorRecipe()

    def train(self, request: TrainingRequest) -> None:
        recipe = request.recipe
        run = TrainingRun(
            request.folder, recipe, ("train", self.name), request.mixed_precision, request.start, self.former_names
        )
        ColorTraining(ColorData(recipe.images), ColorData(recipe.validation_images), run).finish(request.stage)

    def samples(self, seed: int, count: int) -> Sequence[WorldSample]:
        return [WorldSample(painted(name), name) for name in ColorData(count).names]

    def examples(self, task: str) -> Sequence[WorldExample]:
        match task:
            case "text-to-image":
                return [WorldExample("Red", {"prompt": "red"})]
            case "image-to-text":
                return [WorldExample("Blue", {"picture": ExampleImage(lambda size: painted("blue", size))})]
            case _:
                return ()


WORLD = ColorWorld(
    name="colors",
    about="Three plain colors.",
    stages=(*STAGES, MODEL),
    evaluations=(Evaluation("flows", "colors of texts", "sheet", "one of them", measure),),
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package whose world is the one of this file."""
    folder = tmp_path / "site"
    info = folder / "colors-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: colors\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\ncolors = {__name__}:WORLD\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def vd(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.slow
def test_vd_trains_measures_and_opens_a_world_that_another_package_brings(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("versatile_diffusion.devices.computes_bf16", lambda: False)  # as other tests of this process
    assert "Three plain colors." in vd("train", "--help").stdout
    assert "vd train colors --stage kl" in vd("train", "colors", "--help").stdout
    vd("train", "colors", "--run", "run", "--set", "kl.steps=3", "--set", "prediction_type=v_prediction")
    model = installed / "run" / "model"
    card = (model / "README.md").read_text()
    assert card.startswith("---\n") and "# Colors" in card and "It knows three." in card
    assert "--set prediction_type=v_prediction" in card and "--set kl.steps=3" in card
    assert json.loads((model / "scheduler" / "scheduler_config.json").read_text())["prediction_type"] == "v_prediction"
    monkeypatch.setattr(sys.modules[__name__], "WORLD", replace(WORLD, weights=model))
    options = ["--model", "colors", "--device", "cpu", "--dtype", "fp32", "--steps", 1]
    vd("evaluate", "colors", *options, "--num", 3, "--json", "found.json", "--sheet", "sheet.png")
    found = json.loads(Path("found.json").read_text())
    assert found["num"] == 3 and 0 <= found["right"] <= 1
    assert Image.open("sheet.png").size == (SIZE, SIZE)
    vd("text-to-image", "red", *options, "--seed", 1, "-o", "red.png")
    assert Image.open("red.png").size == (SIZE, SIZE)


def test_the_studio_shows_the_examples_of_the_first_model_that_is_a_world(installed: Path) -> None:
    assert [example.title for example in examples_of("text-to-image", ["mine", "colors"])] == ["Red"]
    (blue,) = examples_of("image-to-text", ["colors"])
    picture = blue.values["picture"]
    assert isinstance(picture, bytes) and picture.startswith(b"\x89PNG")
    assert examples_of("edit", ["colors"]) == [] and len(examples_of("edit", ["mine"])) == 2


def test_worlds_are_found_by_name(installed: Path) -> None:
    assert get_world("colors") is WORLD and get_world("postcards").name == "postcards"
    assert find_world("nowhere") is None
    with pytest.raises(ValueError, match="no world 'nowhere', only emoji, postcards, colors"):
        get_world("nowhere")


def test_what_is_no_world_is_refused(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "WORLD", "a word")
    with pytest.raises(TypeError, match="'colors' is described by str"):
        get_world("colors")
