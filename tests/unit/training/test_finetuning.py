"""`vd train DATA`: a LoRA and a whole model on a tiny model, going on, and bad input."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests import processes
from tests.processes import together
from tests.unit.training import drawn_data
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.cli import app
from versatile_diffusion.training.loop import checkpoint
from versatile_diffusion.training.loop.metric_logger import read_log
from versatile_diffusion.training.own_data.finetuning import FineTuning
from versatile_diffusion.training.own_data.run_settings import write_settings
from versatile_diffusion.training.report import curves, run_page
from versatile_diffusion.training.samples.sample_cache import SampleCache
from versatile_diffusion.training.settings.choices import TrackerName
from versatile_diffusion.training.settings.config import read_settings
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import checked

ONE = ("text-to-image",)


@pytest.fixture(scope="module")
def model(session_pipe: VersatileDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    session_pipe.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = tmp_path_factory.mktemp("data")
    source = drawn_data.folder(place, 12)
    drawn_data.picture(3).save(place / "alone.png")
    (place / "broken.png").write_bytes(b"no picture")
    return source


def settings(data: str, model: str, **changes: object) -> TrainingSettings:
    small: dict[str, object] = {"steps": 4, "batch_size": 2, "warmup_steps": 1, "checkpoint_every": 2, "sheet_every": 4}
    return checked(TrainingSettings, {"data": data, "start": model, "validation": 0.2, **small, **changes})


@pytest.fixture(scope="module")
def done(data: str, model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one flow that is done; a test that changes it takes a copy."""
    folder = tmp_path_factory.mktemp("runs") / "done"
    FineTuning(settings(data, model, flows=ONE), folder).train()
    return folder


def vd(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_a_lora_is_trained_used_and_shown(
    data: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_page, "curves_of_page", curves.curves_of_page)  # here they are looked at
    run = tmp_path / "run"
    small = [
        "--steps",
        "4",
        "--batch-size",
        "2",
        "--checkpoint-every",
        "2",
        "--sheet-every",
        "2",
        "--rank",
        "2",
        "--validation",
        "0.3",
    ]
    done = vd("train", data, "--start", model, "--output", str(run), "--learning-rate", "0.05", *small)
    assert done.exit_code == 0, done.output
    assert f"--lora {run / 'lora'}:1.0" in done.stdout
    assert "1 sample was left out: 1 that cannot be used" in done.stderr
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"num_inference_steps": 2, "output_type": "pt"}
    before = pipe.text_to_image("a red tent", generator=torch.Generator().manual_seed(0), **options).images
    pipe.load_lora(run / "lora")
    after = pipe.text_to_image("a red tent", generator=torch.Generator().manual_seed(0), **options).images
    assert not torch.allclose(before, after, atol=1e-3)
    page = (run / "index.html").read_text()
    assert page.count("data:image/png") == 3 and page.count("<svg") == 2
    assert not re.search(r'(src|href)="(?!data:|#)', page), "it loads nothing"
    assert "left out: 1 that cannot be used" in page and "Cannot read a picture" in page
    assert f"--lora {run / 'lora'}:1.0" in page and "steps=8" in page
    card = (run / "lora" / "README.md").read_text()
    for told in (
        "# data",
        f"A LoRA of {model}",
        "vd text-to-image 'a prompt'",
        "--rank 2",
        "1 sample was left out",
        "hours:",
    ):
        assert told in card
    assert (run / "lora" / "sheet.png").read_bytes() == (run / "sheets" / "step-00000004.png").read_bytes()
    assert sorted(file.name for file in (run / "sheets").iterdir()) == [f"step-0000000{step}.png" for step in (1, 2, 4)]
    assert "broken" in json.loads((run / "skipped.jsonl").read_text())["key"]
    log = read_log(run / "training" / "log.jsonl")
    flows = ["image-variation", "text-to-image", "image-to-text", "text-variation"]
    assert all(flow in log[-1] for flow in flows)
    assert [name for name in log[-1] if name.startswith("validation/")]


@pytest.mark.parametrize(
    ("train", "changed", "kept"),
    [
        ("context", ("context_layers.text",), ("context_layers.image", "data_layers", "global_layers")),
        ("data", ("data_layers.image",), ("context_layers", "data_layers.text", "global_layers")),
        ("all", ("data_layers.image", "context_layers.text", "global_layers"), ("data_layers.text",)),
    ],
)
def test_only_what_was_asked_for_is_trained(
    train: str, changed: tuple[str, ...], kept: tuple[str, ...], data: str, model: str, tmp_path: Path
) -> None:
    # text-to-image alone reads only its own layers, so that others are read from the model whole
    chosen = settings(data, model, train=train, flows=("text-to-image",), steps=2, learning_rate=0.01)
    target = FineTuning(chosen, tmp_path).train()
    before = VersatileDiffusionPipeline.from_pretrained(model, flows=["text-to-image"]).diffuser.state_dict()
    after = VersatileDiffusionPipeline.from_pretrained(target).diffuser.state_dict()
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.allclose(before[name], after[name], atol=1e-3)}
    assert all(any(name.startswith(group) for name in moved) for group in changed)
    assert not [name for name in moved if name.startswith(kept)]


def test_a_run_goes_on_where_it_stopped_and_equals_one_that_did_not(
    data: str, model: str, done: Path, tmp_path: Path
) -> None:
    cut = shutil.copytree(done, tmp_path / "cut")
    shutil.rmtree(cut / "lora")
    shutil.rmtree(cut / "training" / "step-00000004")
    assert [folder.name for folder in checkpoint.checkpoints(cut / "training")] == ["step-00000002"]
    again = load_file(FineTuning(settings(data, model, flows=ONE), cut).train() / "lora.safetensors")
    whole = load_file(done / "lora" / "lora.safetensors")
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_samples_are_encoded_once(data: str, model: str, done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path, dirs_exist_ok=True)
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("*.safetensors")}
    assert times
    FineTuning(settings(data, model, flows=ONE, steps=6), tmp_path).train()
    assert times == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("*.safetensors")}


def cached(training: FineTuning) -> SampleCache:
    samples = training.samples["training"]
    assert isinstance(samples, SampleCache)
    return samples


def test_samples_that_were_added_are_encoded(model: str, tmp_path: Path) -> None:
    source = drawn_data.folder(tmp_path / "data", 4)
    assert len(cached(FineTuning(settings(source, model, validation=0), tmp_path / "run"))) == 4
    drawn_data.picture(5).save(tmp_path / "data" / "more.png")
    assert len(cached(FineTuning(settings(source, model, validation=0), tmp_path / "run"))) == 5


def test_settings_are_saved_and_read(data: str, model: str, tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    written = vd(
        "train", data, "--start", model, "--flows", "text-to-image", "image-to-text", "--save-config", str(file)
    )
    assert written.exit_code == 0, written.output
    done = vd("train", str(file), "--set", "steps=1", "--set", "batch_size=2", "--output", str(tmp_path / "run"))
    assert done.exit_code == 0, done.output
    log = read_log(tmp_path / "run" / "training" / "log.jsonl")
    assert {"text-to-image", "image-to-text"} < set(log[-1]) and "image-variation" not in log[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "steps=False"), "steps must be a whole number"),
        (("--set", "step=5"), "There is no step here"),
        (("--steps", "0"), "--steps"),
        (("--flows", "text-to-song"), "text-to-song"),
        (("--learning-rate", "0"), "learning_rate must be above 0"),
        (("--train", "everything"), "everything"),
        (("--start", "no/such-folder/at-all"), "no/such-folder"),
    ],
)
def test_what_cannot_be_is_named_before_anything_starts(
    words: tuple[str, ...], message: str, data: str, model: str, tmp_path: Path
) -> None:
    start = () if "--start" in words else ("--start", model)
    done = vd("train", data, *start, "--output", str(tmp_path / "run"), *words)
    assert done.exit_code in (1, 2) and message in done.output
    assert not (tmp_path / "run" / "training").exists()
    assert "Traceback" not in done.output


def test_a_folder_of_other_settings_is_left_alone(data: str, model: str, done: Path) -> None:
    with pytest.raises(ValueError, match=r"seed was 0 and is 1.*another --output"):
        FineTuning(settings(data, model, flows=ONE, seed=1), done)


def test_settings_that_trained_nothing_may_be_mended(data: str, model: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a red tent")
    words = ("train", str(tmp_path / "texts"), "--start", model, "--steps", "1", "--output", str(run))
    words += ("--batch-size", "2", "--log-with", "none")
    wrong = vd(*words, "--flows", "text-to-image")
    assert wrong.exit_code == 1 and "It has only text" in wrong.output and "Captions are" not in wrong.output
    (run / "sheets").mkdir()
    (run / "sheets" / "step-00000003.png").write_bytes(b"of those settings")
    for _ in range(2):  # and it goes on, whatever YAML takes the word none for
        done = vd(*words, "--flows", "text-variation")
        assert done.exit_code == 0, done.output
    assert not (run / "sheets" / "step-00000003.png").exists()
    assert checked(TrainingSettings, read_settings(run / "run.yaml")).log_with == (TrackerName.NONE,)


def test_a_run_that_is_not_done_may_go_on_more_carefully(data: str, model: str, tmp_path: Path) -> None:
    chosen = settings(data, model, steps=1, flows=("text-to-image",))
    write_settings(chosen, tmp_path / "run.yaml")
    careful = settings(data, model, steps=1, flows=("text-to-image",), learning_rate=1e-5, clip_norm=0.1)
    FineTuning(careful, tmp_path).train()
    with pytest.raises(ValueError, match=r"learning_rate was 1e-05 and is 0.001"):
        FineTuning(chosen, tmp_path)


def test_a_model_learns_to_predict_something_else_and_says_so(data: str, model: str, tmp_path: Path) -> None:
    predicts: dict[str, object] = {"prediction_type": "v_prediction", "zero_snr": True, "flows": ("text-to-image",)}
    with pytest.raises(ValueError, match="A LoRA is used with the scheduler of its model"):
        FineTuning(settings(data, model, **predicts), tmp_path / "run").train()
    assert not (tmp_path / "run").exists(), "nothing was begun"
    target = FineTuning(settings(data, model, steps=1, train="all", **predicts), tmp_path / "run").train()
    pipe = VersatileDiffusionPipeline.from_pretrained(target)
    assert pipe.scheduler.config["prediction_type"] == "v_prediction"
    pipe.set_progress_bar_config(disable=True)
    seen: list[int] = []
    images = pipe.text_to_image(
        "a red tent",
        num_inference_steps=2,
        output_type="pt",
        callback_on_step_end=lambda _pipe, _step, timestep, tensors: seen.append(int(timestep)) or tensors,
    ).images
    assert seen == [999, 499] and torch.isfinite(images).all()


def test_data_of_which_nothing_can_be_learnt_is_named(model: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match=r"Nothing can be learnt from .* It is empty"):
        FineTuning(settings(str(tmp_path / "data"), model), tmp_path / "run").train()
    (tmp_path / "data" / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="Of a: "):
        FineTuning(settings(str(tmp_path / "data"), model), tmp_path / "other").train()


def test_a_flow_that_the_data_does_not_teach_is_named(model: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    drawn_data.picture(0).save(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "b.txt").write_text("a red tent")
    chosen = settings(str(tmp_path / "data"), model, flows=("image-variation", "image-to-text"), validation=0)
    with pytest.raises(ValueError, match="teaches image-variation, but not image-to-text"):
        FineTuning(chosen, tmp_path / "run").train()


def test_an_image_alone_teaches_variations_and_is_drawn_with_its_own_tokens(
    data: str, model: str, tmp_path: Path
) -> None:
    training = FineTuning(settings(data, model, validation=0), tmp_path)
    cache = cached(training)
    assert len(cache) == 13
    flow = next(flow for flow in cache.flows if str(flow) == "image-variation")
    latents, tokens = cache.first(flow, 13)
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    shard, row = cache._groups[flow][0][0]
    file = next(Path(data).rglob(f"{Path(shard.keys[row]).name}.png"))
    seen = pipe.encode_context("image", str(file))
    torch.testing.assert_close(tokens[0], seen[0], atol=2e-3, rtol=2e-3)
    assert len(latents) == 13 and Context("image", str(file)).modality == "image"


@pytest.mark.slow
def test_two_processes_share_the_model_out_and_train_the_same_lora(data: str, model: str, tmp_path: Path) -> None:
    small = [f"--{word}" for word in ("steps=3", "warmup-steps=1", "learning-rate=1e-4", "sheet-every=3")]
    small += ["--rank=2", "--flows=text-to-image", "--precision=fp32", "--sharding=full"]
    words = ["train", data, "--start", model, *small]
    for process in together(processes.vd, *words, "--batch-size=2", "--output", str(tmp_path / "two")):
        assert process.returncode == 0, process.stderr
    assert vd(*words, "--batch-size=4", "--output", str(tmp_path / "one")).exit_code == 0
    two, one = (changes(tmp_path / run / "lora") for run in ("two", "one"))
    assert two.keys() == one.keys()
    for name, change in one.items():
        torch.testing.assert_close(two[name], change, rtol=0, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    assert (tmp_path / "two" / "index.html").is_file()


def changes(lora: Path) -> dict[str, torch.Tensor]:
    """What a LoRA adds to each weight; its factors alone begin with gradients of nothing but rounding."""
    tensors = load_file(lora / "lora.safetensors")
    names = {name.rpartition(".lora_")[0] for name in tensors}
    return {
        name: tensors[f"{name}.lora_B.weight"].flatten(1) @ tensors[f"{name}.lora_A.weight"].flatten(1)
        for name in names
    }
