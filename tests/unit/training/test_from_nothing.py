"""`vd train DATA --start preset:NAME`: all stages of a model from nothing, on a few drawn pictures."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] - typed in part
from typer.testing import CliRunner

from tests.unit.training import drawn_data
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app
from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.modalities import ImageModality
from versatile_diffusion.modalities.image import clip_view
from versatile_diffusion.modalities.vocabulary import parts_words, trained_tokenizers, word_tokenizers
from versatile_diffusion.model_presets import build, tiny
from versatile_diffusion.training.loop import trackers
from versatile_diffusion.training.own_data.from_nothing import image_keeper
from versatile_diffusion.training.own_data.own_encoders import OWN_ENCODERS
from versatile_diffusion.training.own_data.own_images import TRAINING, OwnImages
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.training.tasks.clip import as_clip_takes
from versatile_diffusion.training.tasks.clip_features import ClipFeatures
from versatile_diffusion.training.tasks.kl_autoencoder import KLAutoencoderTask
from versatile_diffusion.validation import checked


def vd(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pictures of two shapes with captions, one without, and a text alone."""
    place = tmp_path_factory.mktemp("data")
    drawn_data.folder(place, 8)
    for index in range(4):
        drawn_data.picture(index, (60, 30)).save(place / f"wide-{index}.png")
        (place / f"wide-{index}.txt").write_text(f"a tent, wide, {drawn_data.COLOURS[index]}\n")
    drawn_data.picture(3).save(place / "without-caption.png")
    (place / "alone.txt").write_text("a house without a picture\n")
    (place / "broken.png").write_bytes(b"no picture")
    return str(place)


SMALL = ["--start", "preset:tiny", "--steps", "1", "--batch-size", "2", "--set", "clip.batch_size=4"]


def test_all_stages_are_trained_measured_and_make_a_model(data: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ["train", data, *SMALL, "--validation", "0.5", "--set", "kl.steps=2", "--output", str(run)]
    words += ["--sheet-every", "2", "--log-with", "none", "--shuffle-tags", "--max-aspect", "3"]
    words += ["--zero-snr", "--prediction-type", "v_prediction"]
    done = vd(*words)
    assert done.exit_code == 0, done.output
    assert f"--model {run / 'model'}" in done.stdout and "1 that cannot be used" in done.stderr
    measured = json.loads((run / "encoders" / "measurements.json").read_text())
    assert set(measured) == set(OWN_ENCODERS)
    assert all(0 <= figures["accuracy"] <= 1 for figures in measured.values())
    stages = {path.parent.name for path in run.glob("encoders/*/step-*")}
    assert stages == set(OWN_ENCODERS) and (run / "encoders" / "kl" / "step-00000002").is_dir()
    assert not list(run.rglob("tensorboard")), "nothing follows it that was not asked for"
    pipe = VersatileDiffusionPipeline.from_pretrained(run / "model")
    pipe.set_progress_bar_config(disable=True)
    scheduler: Any = pipe.scheduler
    assert scheduler.config["prediction_type"] == "v_prediction" and scheduler.config["rescale_betas_zero_snr"]
    (image,) = pipe.text_to_image("a red tent", num_inference_steps=2).images
    assert image.size == (32, 32)
    assert isinstance(pipe.image_to_text(image, num_inference_steps=2).texts[0], str)
    shapes = {shape for file in run.glob("cache/*.safetensors") for shape in latent_shapes(file)}
    assert shapes == {(16, 16), (12, 20)}, "the flows learn pictures in their own shapes"
    card = (run / "model" / "README.md").read_text()
    assert "--set kl.steps=2" in card and "| clip | accuracy |" in card and "learnt all from" in card
    page = html.unescape((run / "index.html").read_text())
    assert "kl, accuracy" in page and "Step 2 of kl<" in page and "four_flow.steps=2" in page
    assert "images with captions, 1 texts alone" in page and '<progress max="5" value="5">' in page
    assert not re.search(r'(src|href)="(?!data:|#)', page), "it loads nothing"
    times = {path: path.stat().st_mtime_ns for path in run.rglob("step-*/*.safetensors")}
    done = vd(*words)
    assert done.exit_code == 0, done.output  # all is there
    assert times == {path: path.stat().st_mtime_ns for path in run.rglob("step-*/*.safetensors")}
    again = vd(*words, "--set", "clip.steps=2")
    assert again.exit_code == 1 and "began from what the encoders were before" in again.output


def latent_shapes(file: Path) -> list[tuple[int, ...]]:
    return [tuple(each.shape[2:]) for name, each in load_file(file).items() if name == "image/latents"]


def test_encoders_learn_from_what_has_no_partner_and_from_what_is_wanted_alone(data: str, tmp_path: Path) -> None:
    settings = checked(TrainingSettings, {"data": data, "start": "preset:tiny", "validation": 0, "max_aspect": 1.5})
    keeper = image_keeper(settings, tiny().image.autoencoder, CaptionedData(data))
    keeper.keep(tmp_path, {"data": data})
    kept = OwnImages(tmp_path, TRAINING)
    assert (len(kept), len(kept.images), len(kept.every_image)) == (8, 8, 9)
    assert kept.every_text[-1] == "a house without a picture" and "wide" not in " ".join(kept.every_text)
    assert keeper.data.skipped.filtered == {"max_aspect": 4}
    assert torch.equal(kept.image_items(0, 1)[0], keeper_square(Path(data) / "part-0" / "000.png"))


def keeper_square(file: Path) -> torch.Tensor:
    """A picture as it is kept: 32 pixels of a side."""
    (item,) = ImageModality(tiny().image.autoencoder).read(file)
    return (clip_view(item, 32) * 255).round() / 255


def test_the_autoencoder_of_images_learns_by_what_clip_sees() -> None:
    pair = build(tiny()).modalities["image"]
    assert isinstance(pair, ImageModality) and pair.context_encoder is not None and pair.autoencoder is not None
    features = ClipFeatures(pair.context_encoder)
    images = torch.rand(2, 3, 32, 32)
    task = KLAutoencoderTask(pair.autoencoder, (images * 255).byte().permute(0, 2, 3, 1).numpy(), features)
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses, decoded = task.losses(task.draw(torch.Generator().manual_seed(0), 2))
        (gradient,) = torch.autograd.grad(losses["features"], decoded)
        assert losses["features"] > 0 and gradient.abs().sum() > 0
    (same,) = features.features(images)
    encoder = pair.context_encoder.model.vision_model
    hidden = encoder.pre_layrnorm(encoder.embeddings(as_clip_takes(images, 28)))
    expected = encoder.encoder(inputs_embeds=hidden).last_hidden_state[:, 1:]
    torch.testing.assert_close(same.flatten(2).transpose(1, 2), expected)


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
    assert [parts_words(each) for each in (gpt2, word_tokenizers(texts).gpt2) if each] == [False, True]
    assert bert.pad_token_id == 0 and bert("a tent")["input_ids"][0] == bert.cls_token_id
    assert [gpt2.pad_token_id, gpt2.bos_token_id, gpt2.eos_token_id] == [len(gpt2) - 3, len(gpt2) - 2, len(gpt2) - 1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--flows", "text-to-image"), "one_flow.flows"),
        (("--train", "lora"), "has learnt nothing"),
        (("--size", "33"), "size must be a multiple of 4"),
        (("--filter", "paper"), "min_similarity needs a column"),
        (("--start", "preset:tinny"), "no preset 'tinny'"),
        (("--start", "preset:stable-diffusion-v1"), "all four flows"),
        (("--zero-snr", "--prediction-type", "epsilon"), "prediction_type"),
        (("--log-with", "wandb"), "versatile-diffusion[wandb]"),
    ],
)
def test_what_cannot_be_is_named_before_anything_is_written(
    words: tuple[str, ...], message: str, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(trackers._INSTALLED, trackers.TrackerName.WANDB, lambda: False)  # pyright: ignore[reportPrivateUsage]
    done = vd("train", data, *SMALL, "--output", str(tmp_path / "run"), *words)
    assert done.exit_code == 1 and message in " ".join(done.output.split()), done.output
    assert not (tmp_path / "run").exists()


def test_stages_that_are_not_there_and_data_without_pairs_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"kl are stages of a model from nothing"):
        checked(TrainingSettings, {"data": "a", "kl": {"steps": 3}})
    (tmp_path / "data").mkdir()
    drawn_data.picture(0).save(tmp_path / "data" / "a.png")
    done = vd("train", str(tmp_path / "data"), "--start", "preset:tiny", "--output", str(tmp_path / "run"))
    assert done.exit_code == 1 and "0 pictures with captions" in done.output
