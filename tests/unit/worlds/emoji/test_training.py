from itertools import product
from pathlib import Path

import pytest

from tests.unit.worlds.emoji import packages as made_up
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.modalities.image_autoencoder import PatchAutoencoderKL
from versatile_diffusion.modalities.vocabulary import vocabulary_of
from versatile_diffusion.training.stages.measurements import read_measurements
from versatile_diffusion.worlds.emoji.classifier import load_emoji_classifier
from versatile_diffusion.worlds.emoji.data.captions import CaptionReader, instruction, phrases
from versatile_diffusion.worlds.emoji.data.catalog import read_catalog
from versatile_diffusion.worlds.emoji.data.hands import HANDS, Hand
from versatile_diffusion.worlds.emoji.data.split import EmojiSplit, holds_out_hand, holds_out_treatment
from versatile_diffusion.worlds.emoji.data.treatments import TREATMENTS
from versatile_diffusion.worlds.emoji.evaluation.applications import FOCUS_LEVELS, LOOKS, ask, evaluate_applications
from versatile_diffusion.worlds.emoji.evaluation.flows import evaluate
from versatile_diffusion.worlds.emoji.evaluation.measured import find_data
from versatile_diffusion.worlds.emoji.labels import TREATMENT_NAMES
from versatile_diffusion.worlds.emoji.recipe import EmojiRecipe, emoji, tiny_recipe
from versatile_diffusion.worlds.emoji.training import EmojiTraining
from versatile_diffusion.worlds.emoji.training_data import EmojiData
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
    data = find_data(str(model))
    found = evaluate_applications(pipe, load_emoji_classifier(model), data, num=2, steps=1, progress=False)
    assert {part: set(scores) for part, scores in found.edit.items()} == {"seen": set(LOOKS), "held_out": set(LOOKS)}
    assert list(found.focus) == list(FOCUS_LEVELS) and found.drawing().startswith(b"\x89PNG")
    _are_other_looks(EmojiData(data, EmojiSplit.VALIDATION))


def _are_other_looks(data: EmojiData) -> None:
    for kind, held_out in product(LOOKS, (False, True)):
        asked = ask(data, kind, held_out, num=100, seed=3)
        assert asked.looks == ask(data, kind, held_out, num=100, seed=3).looks
        for label, look in zip(asked.labels.tolist(), asked.looks, strict=True):
            thing, hand = data.things[label[0]].id, HANDS[label[1]]
            assert label[2] == 0 and TREATMENT_NAMES[0] == "plain"
            if isinstance(look, Hand):
                assert look.family != hand.family and holds_out_hand(thing, look.family) is held_out
            else:
                assert look.name != "plain" and holds_out_treatment(thing, look.name) is held_out


def test_looks_are_asked_for_in_words_that_are_read_back() -> None:
    reader = CaptionReader([])
    for hand in HANDS:
        assert reader.read(instruction(hand)).hand == hand.name
    for name, treatment in TREATMENTS.items():
        if name != "plain":
            assert reader.read(instruction(treatment, "red")).treatment == name
    with pytest.raises(ValueError, match="no words"):
        instruction(TREATMENTS["plain"])


def test_the_recipe_fits_together() -> None:
    preset = EmojiRecipe().preset
    assert preset.image.latent_shape == (16, 8, 8)
    assert preset.text.context_encoder["vocab_size"] == emoji(3191).text.context_encoder["vocab_size"] == 3194


def test_models_of_other_worlds_have_no_classifier_of_emoji() -> None:
    with pytest.raises(CheckpointError, match="holds no classifier of emoji"):
        load_emoji_classifier("postcards")
