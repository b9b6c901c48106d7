import json
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from versatile_diffusion.checkpoints import CheckpointError, open_source, save
from versatile_diffusion.diffuser import ContextTokens
from versatile_diffusion.modalities.vocabulary import word_tokenizers
from versatile_diffusion.model_presets import build
from versatile_diffusion.worlds.postcards import VOCABULARY
from versatile_diffusion.worlds.postcards.attribute_classifier import load_classifier
from versatile_diffusion.worlds.postcards.recipe import PostcardsRecipe, postcards, tiny_recipe
from versatile_diffusion.worlds.postcards.training import PostcardsTraining
from versatile_diffusion.worlds.postcards.world import POSTCARDS_STAGES


def untrained() -> PostcardsRecipe:
    recipe = tiny_recipe()
    return replace(recipe, **{stage: replace(getattr(recipe, stage), steps=0) for stage in POSTCARDS_STAGES})


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


def test_position_embeddings_are_spread_only_where_they_begin_at_random(tmp_path: Path) -> None:
    components = build(tiny_recipe().preset)
    text: Any = components.modalities["text"]
    text.tokenizers = word_tokenizers(VOCABULARY)
    save(components, tmp_path / "first")

    def spread(run: str, factor: float, start: Path | None) -> float:
        recipe = replace(untrained(), clip_position_spread=factor)
        embeddings = PostcardsTraining(recipe, tmp_path / run, start=start).clip.image.model.vision_model.embeddings
        return float(embeddings.position_embedding.weight.std())

    assert spread("wide", 50.0, None) == pytest.approx(50 * spread("plain", 1.0, None), rel=1e-3)
    assert spread("going on", 50.0, tmp_path / "first") < 0.1


@pytest.mark.slow
def test_stages_do_not_go_on_where_the_latents_changed(tmp_path: Path) -> None:
    def run(**changes: Any) -> PostcardsTraining:
        recipe = replace(untrained(), one_flow=replace(tiny_recipe().one_flow, steps=1), **changes)
        return PostcardsTraining(recipe, tmp_path)

    first = run()
    before = first.latents.part("image/latents")
    _ = first.one_flow
    assert torch.equal(run().latents.part("image/latents"), before)
    _ = run().one_flow
    longer = run(kl=replace(tiny_recipe().kl, steps=1))
    assert longer.kl is not None and not torch.equal(longer.latents.part("image/latents"), before)
    with pytest.raises(ValueError, match="one_flow was begun on image/latents of kl at its start"):
        _ = longer.one_flow
    shutil.rmtree(tmp_path / "kl")
    otherwise = run(kl=replace(tiny_recipe().kl, steps=1), kl_feature_weight=9.0)  # to the same step
    kept = longer.latents.part("image/latents")
    assert otherwise.kl is not None and not torch.equal(otherwise.latents.part("image/latents"), kept)


def test_a_model_of_other_sizes_is_refused(tmp_path: Path) -> None:
    training = PostcardsTraining(untrained(), tmp_path, start="postcards")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        _ = training.clip


def test_a_model_to_go_on_from_keeps_the_scale_of_its_contexts(tmp_path: Path) -> None:
    assert postcards().diffuser.context_scale > 1  # of a model from nothing
    begun = PostcardsTraining(PostcardsRecipe(), tmp_path, start="postcards").start
    assert begun.diffuser.plan.config.context_scale == 1
    images, steps = torch.randn(1, 8, 8, 8), torch.tensor([500])
    contexts = [ContextTokens("text", torch.randn(1, 40, 96))]
    with torch.no_grad():
        found = begun.diffuser(images, steps, "image", contexts)
        expected = open_source("postcards").diffuser.float()(images, steps, "image", contexts)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("main", [True, False])
def test_only_the_main_process_writes_down_how_a_run_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: bool
) -> None:
    state = SimpleNamespace(is_main_process=main, main_process_first=nullcontext, num_processes=1)
    for module in ("training_run", "encoder_training"):
        monkeypatch.setattr(f"versatile_diffusion.training.stages.{module}.processes", lambda: state)
    _ = PostcardsTraining(untrained(), tmp_path).perceptual_network
    assert (tmp_path / "run.json").exists() == main


def test_the_classifier_of_the_model_to_go_on_from_is_kept(tmp_path: Path) -> None:
    training = PostcardsTraining(untrained(), tmp_path, start="postcards")
    theirs = load_classifier("postcards").state_dict()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in training.attribute_classifier.state_dict().items())
    training.attribute_classifier.save_pretrained(tmp_path / "oracle")
    assert str(tmp_path.anchor) not in json.loads((tmp_path / "oracle" / "config.json").read_text())["_name_or_path"]
