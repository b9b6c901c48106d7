"""Settings of how steps are taken: on the command line, in files, and combinations that cannot be."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import parse_args
from typer.testing import CliRunner

from versatile_diffusion.checkpoints.components import official_scheduler
from versatile_diffusion.cli import app
from versatile_diffusion.fields import flag_name
from versatile_diffusion.flows import Flow
from versatile_diffusion.sampling.schedulers import PREDICTION_TYPES
from versatile_diffusion.training.own_data.predictions import chosen_schedule, require_all_learnt
from versatile_diffusion.training.own_data.run_settings import clear_run, write_settings
from versatile_diffusion.training.settings.choices import AveragePlace, OptimizerName, PredictionType
from versatile_diffusion.training.settings.config import differences, with_settings
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import checked
from versatile_diffusion.worlds.postcards.recipe import tiny_recipe


def vd(*words: str) -> Any:
    return CliRunner().invoke(app, list(words), env={"COLUMNS": "100"})


def settings(**values: object) -> TrainingSettings:
    return checked(TrainingSettings, {"data": "anything", **values})


def test_settings_of_steps_are_options_and_are_written_and_read(tmp_path: Path) -> None:
    words = "--optimizer muon --precision fp16 --accumulate 2 --context-dropout text=0.3 image=0 --noise-offset 0.1"
    more = "--train all --prediction-type v_prediction --zero-snr --ema cpu --gradient-scales paper"
    more += " --shuffle-tags --tag-dropout 0.2 --keep-tags 1"
    file = tmp_path / "run.yaml"
    done = vd("train", "anything", *words.split(), *more.split(), "--save-config", str(file))
    assert done.exit_code == 0, done.output
    written = yaml.safe_load(file.read_text())
    expected = {
        "optimizer": "muon",
        "precision": "fp16",
        "accumulate": 2,
        "context_dropout": {"text": 0.3, "image": 0.0},
        "noise_offset": 0.1,
        "prediction_type": "v_prediction",
        "zero_snr": True,
        "ema": "cpu",
        "shuffle_tags": True,
        "tag_dropout": 0.2,
        "keep_tags": 1,
        "gradient_scales": "paper",
    }
    assert {name: written[name] for name in expected} == expected
    again = tmp_path / "again.yaml"
    assert (
        vd("train", str(file), "--set", "ema=none", "--gradient-scales", "none", "--save-config", str(again)).exit_code
        == 0
    )
    assert vd("train", str(again), "--save-config", str(again)).exit_code == 0
    assert yaml.safe_load(again.read_text())["ema"] == "none"
    change = "context_dropout.text=0.2"
    assert vd("train", str(file), "--set", change, "--save-config", str(again)).exit_code == 0
    assert yaml.safe_load(again.read_text())["context_dropout"] == {"text": 0.2, "image": 0.0}
    assert settings(context_dropout="0.25").context_dropout == 0.25


def test_torchrun_leaves_all_options_to_the_command() -> None:
    """It takes `--start` for one of its own, but for the two dashes that the help tells of."""
    flags = [flag_name(TrainingSettings, name) for name in TrainingSettings.model_fields]
    words = ["train", "data", *(word for flag in flags for word in (flag, "value"))]
    told = parse_args(["--nproc-per-node", "2", "-m", "--", "versatile_diffusion.cli", *words])
    assert (told.training_script, told.training_script_args) == ("versatile_diffusion.cli", words)
    assert "torchrun --nproc-per-node 2 -m -- versatile_diffusion.cli train" in vd("train", "x", "--help").output


def test_the_help_stands_in_panels() -> None:
    shown = vd("train", "anything", "--help").output
    places = [shown.index(f"─ {panel} ─") for panel in ("What is trained", "Optimisation", "Run", "Data")]
    assert len(set(places)) == 4 and "─ Options ─" in shown
    between = shown[shown.index("─ Optimisation ─") : shown.index("─ Optimisation ─") + 3000]
    assert "--optimizer" in between and "--accumulate" in between


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--context-dropout", "2"), "context_dropout is a number from 0 to 1"),
        (("--context-dropout", "text=most"), "text=0.2 image=0.1, got 'most'"),
        (("--context-dropout", "song=0.1"), "There is no modality 'song'"),
        (("--set", "context_dropout=True"), "context_dropout is a number from 0 to 1"),
        (("--set", "learning_rate=True"), "learning_rate must be a number"),
        (("--set", "clip_norm=False"), "clip_norm must be a number"),
        (("--accumulate", "0"), "--accumulate"),
        (("--optimizer", "adam"), "adamw-8bit"),
        (("--zero-snr", "--prediction-type", "epsilon", "--train", "all"), "set prediction_type to v_prediction"),
    ],
)
def test_what_cannot_be_is_named(words: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = vd("train", "anything", *words, "--save-config", str(tmp_path / "run.yaml"))
    assert done.exit_code in (1, 2) and message in " ".join(done.output.replace("│", " ").split())
    assert not (tmp_path / "run.yaml").exists()


@pytest.mark.parametrize(("begun", "seed", "stays"), [("", 1, False), ("", 0, True), ("training/", 1, True)])
def test_what_other_settings_left_is_removed_if_they_trained_nothing(
    begun: str, seed: int, stays: bool, tmp_path: Path
) -> None:
    write_settings(settings(), tmp_path / "run.yaml")
    for name in ("start", "sheets", f"{begun}step-00000001"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "sheets" / "step-00000001.png").touch()  # is no checkpoint
    clear_run(settings(seed=seed), tmp_path)
    assert (tmp_path / "start").exists() == (tmp_path / "sheets").exists() == stays


def test_a_lora_keeps_the_schedule_of_its_model() -> None:
    assert chosen_schedule(settings(), official_scheduler()).config["prediction_type"] == "epsilon"
    assert chosen_schedule(settings(prediction_type="epsilon"), official_scheduler())
    for changes in ({"prediction_type": "v_prediction"}, {"prediction_type": "v_prediction", "zero_snr": True}):
        with pytest.raises(
            ValueError, match=r"A LoRA is used with the scheduler of its model.*prediction_type epsilon"
        ):
            chosen_schedule(settings(**changes), official_scheduler())
        chosen = chosen_schedule(settings(train="all", **changes), official_scheduler())
        assert chosen.config["prediction_type"] == "v_prediction"
        assert (float(chosen.alphas_cumprod[-1]) == 0) == ("zero_snr" in changes)
    with pytest.raises(ValueError, match=r"nothing but noise.*v_prediction"):
        chosen_schedule(settings(train="all", zero_snr=True), official_scheduler())


def test_a_model_that_is_to_predict_something_else_is_learnt_whole() -> None:
    config = {"outputs": ["image", "text"], "context_dims": {"image": 8, "text": 8}}
    flows = [Flow("text", "image"), Flow("image", "text")]
    require_all_learnt(config, flows)
    with pytest.raises(ValueError, match=r"those of text and image are not learnt.*--flows text-to-image\.$"):
        require_all_learnt(config, flows[:1])


def test_predictions_are_those_that_sampling_knows() -> None:
    assert tuple(PredictionType) == PREDICTION_TYPES


def test_stages_of_a_world_take_steps_so_as_well() -> None:
    recipe = with_settings(tiny_recipe(), ["clip.optimizer=muon", "clip.accumulate=2", "clip.average=none"])
    assert recipe.clip.optimizer is OptimizerName.MUON and recipe.clip.average is AveragePlace.NONE
    assert sorted(differences(recipe, tiny_recipe())) == [
        "clip.accumulate=2",
        "clip.average=none",
        "clip.optimizer=muon",
    ]
    with pytest.raises(ValueError, match=r"clip\.optimizer: input should be 'adamw', 'adamw-8bit' or 'muon'"):
        with_settings(tiny_recipe(), ["clip.optimizer=sgd"])


def test_what_has_learnt_nothing_learns_the_velocity_with_muon_unless_the_user_says_otherwise() -> None:
    def told(**values: object) -> tuple[OptimizerName, float, float | None, PredictionType | None, float | None]:
        chosen = settings(**values)
        clip = chosen.clip.learning_rate
        return chosen.optimizer, chosen.learning_rate, clip, chosen.prediction_type, chosen.min_snr

    muon, adamw, velocity = OptimizerName.MUON, OptimizerName.ADAMW, PredictionType.V_PREDICTION
    new, encoders = {"start": "preset:tiny"}, {"encoders": ("clip",)}
    usual = told()
    assert usual[:4] == (adamw, 1e-3, None, None)
    assert told(**new) == (muon, 1e-2, 2.5e-3, velocity, None)
    assert told(**new, **encoders) == (muon, 1e-2, None, velocity, None)
    assert told(**new, learning_rate=1e-4) == (muon, 1e-4, None, velocity, None)
    assert told(**new, clip={"learning_rate": 1e-4, "steps": 3})[:3] == (muon, 1e-2, 1e-4)
    assert told(**new, optimizer="adamw") == (adamw, 1e-3, None, velocity, None)
    assert told(**new, min_snr=4.0)[3:] == (velocity, 4.0)
    assert told(**new, prediction_type="epsilon")[3:] == (PredictionType.EPSILON, usual[4])
    paper = told(**new, **encoders, recipe="paper")
    assert (paper[0], paper[3], paper[4]) == (adamw, None, usual[4])
