"""`vd train DATA --recipe paper`: with one flow, then two, then four."""

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from tests.unit.training import drawn_data
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app
from versatile_diffusion.training.loop.metric_logger import read_log
from versatile_diffusion.training.own_data.finetuning import FineTuning
from versatile_diffusion.training.own_data.flow_recipe import FlowRecipe, FlowStage
from versatile_diffusion.training.own_data.run_settings import write_settings
from versatile_diffusion.training.settings.choices import GradientScales, Trained
from versatile_diffusion.training.settings.config import read_settings
from versatile_diffusion.training.settings.stage_settings import Recipe
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import checked

SMALL = ["--batch-size", "2", "--warmup-steps", "1", "--validation", "0", "--checkpoint-every", "1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return drawn_data.folder(tmp_path_factory.mktemp("data"), 4)


def vd(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_stages_are_trained_each_from_the_last(data: str, model: Path, tmp_path: Path) -> None:
    file, run = tmp_path / "run.yaml", tmp_path / "run"
    file.write_text(f"data: {data}\nstart: {model}\nrecipe: paper\nsteps: 1\none_flow: {{learning_rate: 0.01}}\n")
    words = ["train", str(file), "--set", "four_flow.steps=2", "--output", str(run), *SMALL]
    done = vd(*words)
    assert done.exit_code == 0, done.output
    logs = {stage: read_log(run / stage / "training" / "log.jsonl") for stage in ("one_flow", "two_flow", "four_flow")}
    learnt = {stage: [name for name in log[-1] if "-" in name and "/" not in name] for stage, log in logs.items()}
    assert [len(flows) for flows in learnt.values()] == [1, 2, 4] and learnt["one_flow"] == ["image-variation"]
    assert [log[-1]["step"] for log in logs.values()] == [1, 1, 2]
    assert "srcdoc" in (run / "index.html").read_text() and f"'a prompt' --model {run / 'model'}" in done.stdout
    page = (run / "four_flow" / "index.html").read_text()
    assert f"a prompt&#x27; --model {run / 'model'}<" in page, "which the last stage wrote"
    assert f"vd train {run / 'run.yaml'} --output {run} --set four_flow.steps=" in page
    before, one, last = (
        VersatileDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32).diffuser.state_dict()
        for folder in (model, run / "one_flow" / "model", run / "model")
    )
    assert before.keys() == one.keys() == last.keys()  # a stage of one flow keeps the layers of all
    moved = {name.split(".")[1] for name in before if not torch.equal(before[name], one[name])}
    assert "image" in moved and "text" not in moved
    times = {path: path.stat().st_mtime_ns for path in run.rglob("step-*/*.safetensors")}
    assert vd(*words).exit_code == 0  # all is done
    assert times == {path: path.stat().st_mtime_ns for path in run.rglob("step-*/*.safetensors")}
    again = vd(*words, "--set", "one_flow.steps=3")
    assert again.exit_code == 1 and "two_flow" in again.output and "another" in again.output


def test_the_last_stage_has_the_papers_gradient_scales(data: str, model: Path, tmp_path: Path) -> None:
    recipe = FlowRecipe(checked(TrainingSettings, {"data": data, "start": str(model), "recipe": "paper"}), tmp_path)
    scales = [recipe.stage_settings(name, str(model)).gradient_scales for name in ("two_flow", "four_flow")]
    assert scales == [GradientScales.NONE, GradientScales.PAPER]


def test_learning_rates_are_the_papers_or_in_its_proportions() -> None:
    chosen = checked(TrainingSettings, {"data": "a", "four_flow": {"steps": 9}})
    assert (chosen.recipe, chosen.train, chosen.four_flow.steps) == (Recipe.PAPER, Trained.ALL, 9)
    assert [chosen.one_flow.learning_rate, chosen.four_flow.learning_rate] == [1e-4, 5e-5]
    scaled = checked(TrainingSettings, {"data": "a", "recipe": "paper", "learning_rate": 1e-3})
    assert scaled.two_flow.learning_rate == pytest.approx(1e-3)
    assert scaled.four_flow.learning_rate == pytest.approx(5e-4)
    assert checked(TrainingSettings, scaled.model_dump()) == scaled


def test_none_is_read_as_it_was_written(tmp_path: Path) -> None:
    chosen = checked(TrainingSettings, {"data": "a", "sharding": "none", "recipe": "none"})
    write_settings(chosen, tmp_path / "run.yaml")
    assert checked(TrainingSettings, read_settings(tmp_path / "run.yaml")) == chosen


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"recipe": "paper", "train": "lora"}, "not a LoRA"),
        ({"recipe": "paper", "flows": ("text-to-image",)}, "one_flow.flows"),
        ({"recipe": "none", "four_flow": {"steps": 3}}, "four_flow are stages of the paper's recipe"),
        ({"recipe": "paper", "four_flow": {"steps": "many"}}, "four_flow.steps must be a whole number"),
        ({"recipe": "paper", "four_flow": {"step": 3}}, "There is no four_flow.step here"),
    ],
)
def test_what_cannot_be_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked(TrainingSettings, {"data": "a", **values})


def test_a_stage_that_the_data_does_not_teach_is_named_first(model: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    drawn_data.picture(0).save(tmp_path / "data" / "a.png")
    values = {"data": str(tmp_path / "data"), "start": str(model), "recipe": "paper", "validation": 0}
    with pytest.raises(ValueError, match=r"does not teach text-to-image, which two_flow learns"):
        FlowRecipe(checked(TrainingSettings, values), tmp_path / "run").train()
    assert not (tmp_path / "run" / "one_flow" / "training").exists()
    assert issubclass(FlowStage, FineTuning)
