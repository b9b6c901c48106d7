"""`vd train DATA --start preset:NAME`: all stages of a model from nothing, on a few drawn pictures."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.unit.training import drawn_data
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app
from versatile_diffusion.modalities.vocabulary import trained_tokenizers
from versatile_diffusion.model_presets import stable_diffusion_v1
from versatile_diffusion.training.own_data.own_recipe import OWN_STAGES, with_vocabularies
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import checked


def vd(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_all_stages_are_trained_measured_and_make_a_model(tmp_path: Path) -> None:
    data, run = drawn_data.folder(tmp_path / "data", 8), tmp_path / "run"
    drawn_data.picture(3).save(tmp_path / "data" / "without-caption.png")
    words = ["train", data, "--start", "preset:tiny", "--steps", "1", "--batch-size", "2", "--validation", "0.5"]
    words += ["--set", "clip.batch_size=4", "--set", "kl.steps=2", "--output", str(run), "--sheet-every", "2"]
    done = vd(*words)
    assert done.exit_code == 0, done.output
    assert f"--model {run / 'model'}" in done.stdout and "1 sample was left out" in done.stderr
    measured = json.loads((run / "measurements.json").read_text())
    assert {"kl", "kl_adversarial", "clip", "optimus"} <= set(measured)
    assert all(0 <= figures["accuracy"] <= 1 for figures in measured.values())
    assert {path.parent.name for path in run.glob("*/step-*")} == set(OWN_STAGES)
    assert len(list((run / "kl").glob("step-00000002"))) == 1
    pipe = VersatileDiffusionPipeline.from_pretrained(run / "model")
    pipe.set_progress_bar_config(disable=True)
    (image,) = pipe.text_to_image("a red tent", num_inference_steps=2).images
    assert image.size == (32, 32)
    assert isinstance(pipe.image_to_text(image, num_inference_steps=2).texts[0], str)
    assert "run.yaml" in (run / "model" / "README.md").read_text()
    page = (run / "index.html").read_text()
    assert "kl, accuracy" in page and "Step 2 of kl<" in page and "Step 1 of four flow<" in page
    assert '<progress max="8" value="8">' in page and "four_flow.steps=2" in page and "1 that cannot be used" in page
    assert "Go on, where it was stopped" in page and not re.search(r'(src|href)="(?!data:|#)', page), "it loads nothing"


def test_tokenizers_are_trained_on_the_captions_and_know_any_word() -> None:
    texts = ["A red tent by the sea", "a blue house"] * 3
    tokenizers = trained_tokenizers(texts)
    clip, bert, gpt2 = tokenizers.clip, tokenizers.bert, tokenizers.gpt2
    assert clip is not None and bert is not None and gpt2 is not None
    for tokenizer in (clip, gpt2):
        ids = tokenizer("a red zeppelin", add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=True) == "a red zeppelin"
    ids = clip("A Red tent")["input_ids"]
    assert ids == clip("a red tent")["input_ids"]
    assert ids[0] == clip.bos_token_id and ids[-1] == clip.eos_token_id == len(clip) - 1
    assert bert.pad_token_id == 0 and bert("a tent")["input_ids"][0] == bert.cls_token_id
    assert [gpt2.pad_token_id, gpt2.bos_token_id, gpt2.eos_token_id] == [len(gpt2) - 3, len(gpt2) - 2, len(gpt2) - 1]


def test_what_cannot_be_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kl are stages of a model from nothing"):
        checked(TrainingSettings, {"data": "a", "kl": {"steps": 3}})
    with pytest.raises(ValueError, match=r"all four flows.*--encoders"):
        with_vocabularies(stable_diffusion_v1(), trained_tokenizers(["a tent"]))
    (tmp_path / "data").mkdir()
    drawn_data.picture(0).save(tmp_path / "data" / "a.png")
    done = vd("train", str(tmp_path / "data"), "--start", "preset:tiny", "--output", str(tmp_path / "run"))
    assert done.exit_code == 1 and "0 pictures with captions" in done.output
    done = vd("train", str(tmp_path / "data"), "--start", "preset:tinny", "--output", str(tmp_path / "run"))
    assert done.exit_code == 1 and "no preset 'tinny'" in done.output
