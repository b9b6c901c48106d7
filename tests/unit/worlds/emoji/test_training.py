from pathlib import Path

import pytest

from tests.unit.worlds.emoji import packages as made_up
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.modalities.image_autoencoder import PatchAutoencoderKL
from versatile_diffusion.modalities.vocabulary import vocabulary_of
from versatile_diffusion.training.measurements import read_measurements
from versatile_diffusion.worlds.emoji.classifier import load_emoji_classifier
from versatile_diffusion.worlds.emoji.data.captions import phrases
from versatile_diffusion.worlds.emoji.data.catalog import read_catalog
from versatile_diffusion.worlds.emoji.evaluation.flows import evaluate
from versatile_diffusion.worlds.emoji.evaluation.measured import find_data
from versatile_diffusion.worlds.emoji.recipe import EmojiRecipe, emoji, tiny_recipe
from versatile_diffusion.worlds.emoji.training import EmojiTraining
from versatile_diffusion.worlds.emoji.world import EMOJI_STAGES


@pytest.mark.slow
def test_all_stages_from_the_packages_to_the_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = made_up.install(tmp_path / "run" / "packages", monkeypatch)
    words = vocabulary_of(phrases(read_catalog(packages).things))
    training = EmojiTraining(tiny_recipe(len(words)), tmp_path / "run")
    training.finish("model")
    model = tmp_path / "run" / "model"
    assert all((tmp_path / "run" / stage / "log.jsonl").exists() for stage in EMOJI_STAGES)
    assert isinstance(training.image.autoencoder, PatchAutoencoderKL)
    figures = read_measurements(tmp_path / "run")
    assert {"error", "edge_energy", "grid", "thing", "hand", "treatment"} <= set(figures["kl_adversarial"]["held_out"])
    card = (model / "README.md").read_text()
    assert "CC-BY-4.0" in card and "Noto Emoji" in card and "emojibase" in card
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    report = evaluate(pipe, load_emoji_classifier(model), find_data(str(model)), num=3, steps=1, progress=False)
    scores = report.as_dict()
    assert set(scores) == {"seen", "held_out", "stranger", "settings", "seconds"}
    assert set(report.scores["held_out"]["text_to_image"]) == {"thing", "hand", "treatment"}
    assert set(report.scores["seen"]["fid"]) == {"distance", "floor"}
    assert set(report.scores["stranger"]["image_to_text"]) == {"first", "within_5"}
    assert report.drawing().startswith(b"\x89PNG") and len(report.tables()) == 1


def test_the_recipe_fits_together() -> None:
    preset = EmojiRecipe().preset
    assert preset.image.latent_shape == (16, 8, 8)
    assert preset.text.context_encoder["vocab_size"] == emoji(3191).text.context_encoder["vocab_size"] == 3194


def test_models_of_other_worlds_have_no_classifier_of_emoji() -> None:
    with pytest.raises(CheckpointError, match="holds no classifier of emoji"):
        load_emoji_classifier("postcards")
