import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.evaluation.fid import frechet_distance
from versatile_diffusion.evaluation.scores import diversity, score, score_captions, score_rewrites
from versatile_diffusion.modalities import ImageModality, TextModality
from versatile_diffusion.modalities.vocabulary import word_tokenizers
from versatile_diffusion.model_presets import TextPreset, build, clip_text, optimus, tiny
from versatile_diffusion.worlds.postcards import ATTRIBUTES, VOCABULARY, Postcards, Scene, Split, caption
from versatile_diffusion.worlds.postcards import evaluation as postcards
from versatile_diffusion.worlds.postcards.attribute_classifier import Oracle
from versatile_diffusion.worlds.postcards.evaluation import evaluate, load_oracle
from versatile_diffusion.worlds.postcards.report import Report
from versatile_diffusion.worlds.postcards.sheet import Exhibit
from versatile_diffusion.worlds.postcards.stage_scores import (
    batches,
    read_attributes,
    reconstruction_accuracy,
    retrieval_accuracy,
    text_reconstruction_accuracy,
)

SCENES = st.builds(
    Scene, **{name: st.sampled_from(values) for name, values in ATTRIBUTES.items()}, seed=st.integers(0, 9)
)
MENTIONS = st.sets(st.sampled_from(list(ATTRIBUTES)), min_size=1)


# ---- scores ----


def test_only_expected_attributes_count() -> None:
    expected = [{"color": "red", "time": "night"}, {"color": "blue"}]
    found = [{"color": "red", "time": "day", "place": "sea"}, {}]
    result = score(expected, found)
    assert result.accuracy == pytest.approx(1 / 3)
    assert (result.per_attribute["color"], result.per_attribute["time"]) == (0.5, 0)
    assert result.per_attribute["place"] is None and list(result.per_attribute) == list(ATTRIBUTES)
    with pytest.raises(ValueError):
        score(expected, found[:1])


def test_a_score_of_nothing_is_none() -> None:
    assert score([{}], [{"color": "red"}]).accuracy is None


@given(SCENES, MENTIONS, st.integers(0, 99))
def test_a_caption_is_right_about_what_it_names(scene: Scene, mention: set[str], seed: int) -> None:
    text = caption(scene, np.random.default_rng(seed), mention)
    result = score_captions([text], [scene.attributes])
    assert result.accuracy == 1
    assert result.coverage == result.strict_accuracy == len(mention) / len(ATTRIBUTES)


def test_a_wrong_caption_covers_but_is_not_accurate() -> None:
    scene = Scene("sea", "day", "rain", "tent", "red", "left", "postcard", seed=0)
    result = score_captions(["a red house at night"], [scene.attributes])
    assert result.accuracy == pytest.approx(1 / 3)
    assert result.coverage == pytest.approx(3 / 7) and result.strict_accuracy == pytest.approx(1 / 7)


@given(SCENES, MENTIONS, st.integers(0, 99))
def test_another_caption_of_the_same_keeps_all(scene: Scene, mention: set[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    result = score_rewrites([caption(scene, rng, mention)], [caption(scene, rng, mention)])
    assert (result.accuracy, result.contradicted, result.invented) == (1, 0, 0)


def test_rewrites_lose_contradict_and_invent() -> None:
    result = score_rewrites(["a red tent at night on the left"], ["a blue tent at night, in the rain"])
    assert (result.accuracy, result.contradicted, result.invented) == (0.5, 0.25, 0.25)


def test_case_spaces_and_final_stop_do_not_change_a_text() -> None:
    inputs = ["a red tent, at night", "a red tent", "a tent"]
    assert score_rewrites(inputs, ["A red  tent , at night.", "a red tent by day", "a tent"]).unchanged == 2 / 3


def test_copies_have_no_diversity_and_redrawn_pictures_have_one() -> None:
    pictures, redrawn = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
    assert diversity(pictures, pictures, redrawn) == 0
    assert diversity(pictures, redrawn, redrawn) == 1
    assert diversity(pictures, (pictures + redrawn) / 2, redrawn) == pytest.approx(0.5)


# ---- stages ----


class SameImage(ImageModality):
    def encode(self, items: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(items))

    def decode(self, latents: Tensor, generators: Any = None, **options: Any) -> list[Tensor]:
        return list(latents)

    def embed(self, items: Sequence[Tensor], masks: Any = None) -> Tensor:
        return torch.stack([item.flatten()[None] for item in items])


class ForgetfulText(TextModality):
    """Its latents are its words, and it gives back the first `kept` of each text."""

    kept = 99

    def encode(self, items: Sequence[str]) -> Any:
        return [item.split() for item in items]

    def decode(self, latents: Any, generators: Any = None, **options: Any) -> list[str]:
        return [" ".join(words[: self.kept]) for words in latents]

    def context_ids(self, items: Sequence[str]) -> Tensor:
        return torch.tensor([[int(item)] for item in items])


class NumbersAsDirections(nn.Module):
    def model(self, input_ids: Tensor) -> SimpleNamespace:
        return SimpleNamespace(text_embeds=2.5 * torch.eye(12)[input_ids[:, 0]])


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    torch.manual_seed(0)
    return Oracle(widths=(8, 16), size=32).eval()


@settings(max_examples=20)
@given(st.integers(1, 20), st.integers(1, 7))
def test_batches_are_whole_and_in_order(length: int, size: int) -> None:
    parts = list(batches(range(length), size))
    assert [i for part in parts for i in part] == list(range(length))
    assert max(map(len, parts)) <= size


def test_reading_pictures_in_batches_reads_each(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = torch.rand(5, 3, 32, 32)
    whole = oracle.read(pictures)
    monkeypatch.setattr("versatile_diffusion.worlds.postcards.stage_scores.BATCH", 2)
    assert read_attributes(oracle, pictures) == whole


def test_an_autoencoder_without_loss_scores_as_the_pictures_do(oracle: Oracle) -> None:
    pictures = list(torch.rand(6, 3, 32, 32))
    scenes = [Scene(**read, seed=0) for read in oracle.read(torch.stack(pictures))]
    assert reconstruction_accuracy(oracle, SameImage(), pictures, scenes).accuracy == 1
    others = [replace(scene, time="day" if scene.time == "night" else "night") for scene in scenes]
    result = reconstruction_accuracy(oracle, SameImage(), pictures, others)
    assert result.per_attribute["time"] == 0 and result.accuracy == pytest.approx(6 / 7)


def test_text_reconstruction_asks_for_the_same_meaning() -> None:
    text, texts = ForgetfulText(), ["a red tent now", "a red tent by the sea"]
    assert text_reconstruction_accuracy(text, texts) == 1
    text.kept = 3
    assert text_reconstruction_accuracy(text, texts) == 0.5


def test_retrieval_picks_the_nearest_text() -> None:
    text = ForgetfulText()
    text.context_encoder = NumbersAsDirections()  # pyright: ignore
    pictures, texts = [torch.eye(12)[i].reshape(3, 2, 2) for i in range(12)], [str(i) for i in range(12)]
    assert retrieval_accuracy(SameImage(), text, pictures, texts, choices=12) == 1
    shifted = [*texts[1:], texts[0]]  # the right text of each picture is the one before: offered only among all 12
    assert retrieval_accuracy(SameImage(), text, pictures, shifted, choices=12) == 0
    with pytest.raises(ValueError, match="13 choices"):
        retrieval_accuracy(SameImage(), text, pictures, texts, choices=13)


def test_frechet_distance_grows_with_the_difference(oracle: Oracle) -> None:
    pictures = torch.rand(40, 3, 32, 32)
    none, little, much = (frechet_distance(oracle, pictures, (pictures * x)) for x in (1.0, 0.8, 0.3))
    assert none == pytest.approx(0, abs=1e-3)
    assert none < little < much


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


def run(model: VersatileDiffusionPipeline, oracle: Oracle, seed: int) -> Report:
    return evaluate(model, oracle, num=3, seed=seed, steps=2, batch_size=2, progress=False)


@pytest.fixture(scope="module")
def report(model: VersatileDiffusionPipeline, oracle: Oracle) -> Report:
    return run(model, oracle, seed=1)


def test_equal_seeds_give_equal_reports(report: Report, model: VersatileDiffusionPipeline, oracle: Oracle) -> None:
    again = run(model, oracle, seed=1)
    assert again == report
    assert again.sheet.tobytes() == report.sheet.tobytes()


def test_postcards_are_fresh_and_of_both_splits(
    report: Report, model: VersatileDiffusionPipeline, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Postcards] = []

    class Recorded(Postcards):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            drawn.append(self)

    monkeypatch.setattr(postcards, "Postcards", Recorded)
    assert run(model, oracle, seed=2) != report
    assert [source.split for source in drawn] == [Split.TRAIN, Split.HELD_OUT]
    assert min(source.seed for source in drawn) > 2**32


def test_the_report_is_json_of_the_documented_layout(report: Report) -> None:
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


def test_the_tables_show_every_attribute_and_flow(report: Report) -> None:
    console = Console(file=StringIO(), width=160)
    console.print(*report.tables())
    printed = console.file.getvalue()  # pyright: ignore
    for word in (*ATTRIBUTES, "text to image", "image variation", "held out", "unchanged"):
        assert word in printed
    assert "None" not in printed and "nan" not in printed


def test_the_progress_bars_of_the_pipeline_are_left_as_they_were(
    report: Report, model: VersatileDiffusionPipeline
) -> None:
    assert model._progress_bar_config == {"desc": "as the user wants it"}


def test_too_few_postcards_are_refused(model: VersatileDiffusionPipeline, oracle: Oracle) -> None:
    with pytest.raises(ValueError, match="2 or more"):
        evaluate(model, oracle, num=1, progress=False)


@given(st.text("ab ", max_size=200), st.integers(0, 2))
def test_texts_under_pictures_lose_no_word(text: str, pictures: int) -> None:
    exhibit = Exhibit((Image.new("RGB", (8, 8)),) * pictures, text)
    assert "".join(exhibit.lines).replace(" ", "") == text.replace(" ", "")
    assert all(len(line) * 6 <= exhibit.width for line in exhibit.lines)


def test_an_oracle_is_found_beside_its_model(oracle: Oracle, tmp_path: Path) -> None:
    oracle.save_pretrained(tmp_path / "oracle")
    found, pictures = load_oracle(tmp_path), torch.rand(2, 3, 32, 32)
    assert found.read(pictures) == oracle.read(pictures) and not found.training


def test_a_missing_oracle_says_where_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="vd train postcards"):
        load_oracle(tmp_path)
