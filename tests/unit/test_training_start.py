import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from versatile_diffusion.checkpoints import CheckpointError, open_source, save
from versatile_diffusion.datasets.postcards import VOCABULARY
from versatile_diffusion.evaluation.postcards import load_oracle
from versatile_diffusion.modalities.vocabulary import word_tokenizers
from versatile_diffusion.presets import build
from versatile_diffusion.training.postcards import PostcardsTraining
from versatile_diffusion.training.recipe import STAGES, Recipe, tiny_recipe


def untrained() -> Recipe:
    recipe = tiny_recipe()
    return replace(recipe, **{stage: replace(getattr(recipe, stage), steps=0) for stage in STAGES})


@pytest.mark.slow
def test_training_goes_on_from_a_model(tmp_path: Path) -> None:
    torch.manual_seed(7)
    components = build(tiny_recipe().preset)
    text: Any = components.modalities["text"]
    text.tokenizers = word_tokenizers(VOCABULARY)
    save(components, tmp_path / "first")
    _ = PostcardsTraining(untrained(), tmp_path / "run", start=tmp_path / "first").model
    first, again = open_source(tmp_path / "first"), open_source(tmp_path / "run" / "model")
    for before, after in (
        (first.diffuser, again.diffuser),
        *zip(first.modalities.values(), again.modalities.values(), strict=True),
    ):
        weights = after.state_dict()
        for name, tensor in before.state_dict().items():
            torch.testing.assert_close(tensor.to(weights[name].dtype), weights[name], msg=name)
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "--start" in card and "from random weights" not in card


def test_a_model_of_other_sizes_is_refused(tmp_path: Path) -> None:
    training = PostcardsTraining(untrained(), tmp_path, start="postcards")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        _ = training.clip


def test_the_oracle_of_the_model_to_go_on_from_is_kept(tmp_path: Path) -> None:
    training = PostcardsTraining(untrained(), tmp_path, start="postcards")
    theirs = load_oracle("postcards").state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in training.oracle.state_dict().items())
    training.oracle.save_pretrained(tmp_path / "oracle")
    assert str(tmp_path.anchor) not in json.loads((tmp_path / "oracle" / "config.json").read_text())["_name_or_path"]
