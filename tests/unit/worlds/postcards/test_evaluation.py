import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.evaluation.attribute_scores import RewriteScore, score_captions, score_rewrites
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.vocabulary import word_tokenizers
from versatile_diffusion.model_presets import TextPreset, build, clip_text, optimus, tiny
from versatile_diffusion.worlds.postcards import ATTRIBUTES, VOCABULARY, Postcards, Scene, Split, caption, parse
from versatile_diffusion.worlds.postcards.attribute_classifier import (
    AttributeClassifier,
    load_classifier,
)
from versatile_diffusion.worlds.postcards.evaluation import flows as postcards
from versatile_diffusion.worlds.postcards.evaluation.flows import evaluate, same_words
from versatile_diffusion.worlds.postcards.evaluation.flows_report import FlowsReport
from versatile_diffusion.worlds.postcards.evaluation.stage_scores import (
    read_attributes,
    reconstruction_accuracy,
    text_reconstruction_accuracy,
)

SCENES = st.builds(
    Scene, **{name: st.sampled_from(values) for name, values in ATTRIBUTES.items()}, seed=st.integers(0, 9)
)
MENTIONS = st.sets(st.sampled_from(list(ATTRIBUTES)), min_size=1)


# ---- scores ----


def rewritten(before: str, after: str) -> RewriteScore:
    return score_rewrites([parse(before)], [parse(after)], [same_words(before, after)], ATTRIBUTES)


@given(SCENES, MENTIONS, st.integers(0, 99))
def test_a_caption_is_right_about_what_it_names(scene: Scene, mention: set[str], seed: int) -> None:
    text = caption(scene, np.random.default_rng(seed), mention)
    result = score_captions([parse(text)], [scene.attributes], ATTRIBUTES)
    assert result.accuracy == 1
    assert result.coverage == result.strict_accuracy == len(mention) / len(ATTRIBUTES)


def test_a_wrong_caption_covers_but_is_not_accurate() -> None:
    scene = Scene("sea", "day", "rain", "tent", "red", "left", "postcard", seed=0)
    result = score_captions([parse("a red house at night")], [scene.attributes], ATTRIBUTES)
    assert result.accuracy == pytest.approx(1 / 3)
    assert result.coverage == pytest.approx(3 / 7) and result.strict_accuracy == pytest.approx(1 / 7)


@given(SCENES, MENTIONS, st.integers(0, 99))
def test_another_caption_of_the_same_keeps_all(scene: Scene, mention: set[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    result = rewritten(caption(scene, rng, mention), caption(scene, rng, mention))
    assert (result.accuracy, result.contradicted, result.invented) == (1, 0, 0)


def test_rewrites_lose_contradict_and_invent() -> None:
    result = rewritten("a red tent at night on the left", "a blue tent at night, in the rain")
    assert (result.accuracy, result.contradicted, result.invented) == (0.5, 0.25, 0.25)


def test_case_spaces_and_final_stop_do_not_change_a_text() -> None:
    assert same_words("a red tent, at night", "A red  tent , at night.")
    assert same_words("a tent", "a tent") and not same_words("a red tent", "a red tent by day")


# ---- stages ----


class SameImage(ImageModality):
    def encode(self, items: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(items))

    def decode(self, latents: Tensor, generators: Any = None, **options: Any) -> list[Tensor]:
        return list(latents)


class ForgetfulText(TextModality):
    """Its latents are its words, and it gives back the first `kept` of each text."""

    kept = 99

    def encode(self, items: Sequence[str]) -> Any:
        return [item.split() for item in items]

    def decode(self, latents: Any, generators: Any = None, **options: Any) -> list[str]:
        return [" ".join(words[: self.kept]) for words in latents]


@pytest.fixture(scope="module")
def classifier() -> AttributeClassifier:
    torch.manual_seed(0)
    return AttributeClassifier(widths=(8, 16), size=32).eval()


def test_reading_pictures_in_batches_reads_each(
    classifier: AttributeClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = torch.rand(5, 3, 32, 32)
    whole = classifier.read(pictures)
    monkeypatch.setattr("versatile_diffusion.worlds.postcards.evaluation.stage_scores.BATCH", 2)
    assert read_attributes(classifier, pictures) == whole


def test_an_autoencoder_without_loss_scores_as_the_pictures_do(classifier: AttributeClassifier) -> None:
    pictures = list(torch.rand(6, 3, 32, 32))
    scenes = [Scene(**read, seed=0) for read in classifier.read(torch.stack(pictures))]
    assert reconstruction_accuracy(classifier, SameImage(), pictures, scenes).accuracy == 1
    others = [replace(scene, time="day" if scene.time == "night" else "night") for scene in scenes]
    result = reconstruction_accuracy(classifier, SameImage(), pictures, others)
    assert result.per_attribute["time"] == 0 and result.accuracy == pytest.approx(6 / 7)


def test_text_reconstruction_asks_for_the_same_meaning() -> None:
    text, texts = ForgetfulText(), ["a red tent now", "a red tent by the sea"]
    assert text_reconstruction_accuracy(text, texts) == 1
    text.kept = 3
    assert text_reconstruction_accuracy(text, texts) == 0.5


# ---- the whole ----


@pytest.fixture(scope="module")
def model() -> VersatileDiffusionPipeline:
    words = len(VOCABULARY)
    text = TextPreset(
        optimus(width=32, layers=1, pieces=words + 4, tokens=words + 4, latent=48, positions=(64, 48), heads=4),
        clip_text(width=32, layers=1, tokens=words + 3, positions=40, projection=24, heads=4),
        latent_dim=48,
    )
    torch.manual_seed(0)
    components = build(tiny().with_modalities(text=text))
    components.modalities["text"].tokenizers = word_tokenizers(VOCABULARY)  # pyright: ignore
    pipe = VersatileDiffusionPipeline(components.diffuser, components.scheduler, components.modalities)
    pipe.set_progress_bar_config(desc="as the user wants it")
    return pipe


def run(model: VersatileDiffusionPipeline, classifier: AttributeClassifier, seed: int) -> FlowsReport:
    return evaluate(model, classifier, num=3, seed=seed, steps=2, batch_size=2, progress=False)


@pytest.fixture(scope="module")
def report(model: VersatileDiffusionPipeline, classifier: AttributeClassifier) -> FlowsReport:
    return run(model, classifier, seed=1)


def test_equal_seeds_give_equal_reports(
    report: FlowsReport, model: VersatileDiffusionPipeline, classifier: AttributeClassifier
) -> None:
    again = run(model, classifier, seed=1)
    assert again == report
    assert again.sheet.tobytes() == report.sheet.tobytes()


def test_postcards_are_fresh_and_of_both_splits(
    report: FlowsReport,
    model: VersatileDiffusionPipeline,
    classifier: AttributeClassifier,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn: list[Postcards] = []

    class Recorded(Postcards):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            drawn.append(self)

    monkeypatch.setattr(postcards, "Postcards", Recorded)
    assert run(model, classifier, seed=2) != report
    assert [source.split for source in drawn] == [Split.TRAIN, Split.HELD_OUT]
    assert min(source.seed for source in drawn) > 2**32


def test_the_report_is_json_of_the_documented_layout(report: FlowsReport) -> None:
    found = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert list(found) == ["seen", "held_out", "oracle", "autoencoders", "settings", "seconds"]
    flows = ["text_to_image", "image_to_text", "image_variation", "text_variation"]
    for split in ("seen", "held_out"):
        assert list(found[split]) == [*flows, "fid", "fid_floor"]
        for scores in (*(found[split][flow] for flow in flows), found["oracle"][split]):
            assert list(scores["per_attribute"]) == list(ATTRIBUTES)
            assert scores["accuracy"] is None or 0 <= scores["accuracy"] <= 1
        assert 0 <= found["autoencoders"][split]["retrieval"] <= 1
    assert {"coverage", "strict_accuracy"} < found["seen"]["image_to_text"].keys()
    assert {"invented", "unchanged"} < found["seen"]["text_variation"].keys()
    assert found["seen"]["image_variation"]["diversity"] > 0
    assert (found["settings"]["num"], found["settings"]["seed"]) == (report.num, 1)


def test_the_tables_show_every_attribute_and_flow(report: FlowsReport) -> None:
    console = Console(file=StringIO(), width=160)
    console.print(*report.tables())
    printed = console.file.getvalue()  # pyright: ignore
    for word in (*ATTRIBUTES, "text to image", "image variation", "held out", "unchanged"):
        assert word in printed
    assert "None" not in printed and "nan" not in printed


def test_the_progress_bars_of_the_pipeline_are_left_as_they_were(
    report: FlowsReport, model: VersatileDiffusionPipeline
) -> None:
    assert model._progress_bar_config == {"desc": "as the user wants it"}


def test_too_few_postcards_are_refused(model: VersatileDiffusionPipeline, classifier: AttributeClassifier) -> None:
    with pytest.raises(ValueError, match="2 or more"):
        evaluate(model, classifier, num=1, progress=False)


def test_a_classifier_is_found_beside_its_model(classifier: AttributeClassifier, tmp_path: Path) -> None:
    classifier.save_pretrained(tmp_path / "oracle")
    found, pictures = load_classifier(tmp_path), torch.rand(2, 3, 32, 32)
    assert found.read(pictures) == classifier.read(pictures) and not found.training


def test_a_missing_classifier_says_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="vd train postcards"):
        load_classifier(tmp_path)
