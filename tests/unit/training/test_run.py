from pathlib import Path

import pytest

from versatile_diffusion.training.stages.training_run import TrainingRun
from versatile_diffusion.worlds.postcards.recipe import tiny_recipe

COMMAND = ("train", "postcards")


def test_a_stage_that_an_earlier_version_began_goes_on_in_its_folder(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path, tiny_recipe(), COMMAND, former_names={"perceptual_network": "critic"})
    assert run.stage_folder("perceptual_network") == tmp_path / "perceptual_network"
    (tmp_path / "critic").mkdir()
    assert run.stage_folder("perceptual_network") == tmp_path / "critic"
    assert run.stage_folder("kl") == tmp_path / "kl" and run.config("kl") == tiny_recipe().kl


def test_a_stage_does_not_go_on_with_latents_of_another_origin(tmp_path: Path) -> None:
    run = TrainingRun(tmp_path, tiny_recipe(), COMMAND)
    run.require_same_latents("one_flow", {"image/latents": "here"})
    run.require_same_latents("one_flow", {"image/latents": "there"})  # nothing was trained yet
    (tmp_path / "one_flow" / "step-00000001").mkdir()
    run.require_same_latents("one_flow", {"image/latents": "there"})
    with pytest.raises(ValueError, match=r"one_flow was begun on image/latents of there.*choose another --run"):
        run.require_same_latents("one_flow", {"image/latents": "elsewhere"})
