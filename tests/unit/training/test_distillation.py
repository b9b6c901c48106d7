"""`vd distill`: jumps between timesteps, what a student learns, and the command on a tiny model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import load_file
from torch import Generator
from typer.testing import CliRunner

from tests.unit.training import drawn_data
from tests.unit.training.diffuser_runs import ALL_FLOWS, four_flow_task
from tests.unit.training.shallow_model import SHALLOW, save_shallow
from versatile_diffusion import FAST, VersatileDiffusionPipeline
from versatile_diffusion.cli import app
from versatile_diffusion.diffuser.model import ContextTokens
from versatile_diffusion.flows import Flow
from versatile_diffusion.model_presets import tiny
from versatile_diffusion.pipeline.lora import add_lora
from versatile_diffusion.pipeline.lora_layers import without_loras
from versatile_diffusion.sampling.schedulers import PREDICTION_TYPES
from versatile_diffusion.training.loop.task import TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.own_data import dry_run
from versatile_diffusion.training.settings.distillation_settings import DistillationSettings
from versatile_diffusion.training.stages.preparation import learnt_schedule
from versatile_diffusion.training.tasks.consistency import ConsistencyTask, Jumps
from versatile_diffusion.validation import checked

SCALES = {"image": 3.0, "text": 2.0}


def jumps(predicts: str = "epsilon", phases: int = 4) -> Jumps:
    return Jumps(learnt_schedule(DDIMScheduler(), predicts), solver_steps=20, phases=phases)


def student(
    predicts: str = "epsilon", flows: list[Flow] = ALL_FLOWS, solver_steps: int = 20, phases: int = 4
) -> ConsistencyTask:
    learnt = four_flow_task(flows)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in learnt.model.parameters():
            if not parameter.any():  # zero at the start of training, where contexts would not matter
                torch.nn.init.normal_(parameter, std=0.05)
    add_lora(learnt.model, rank=2, layers="both")
    for parameter in learnt.model.parameters():
        parameter.requires_grad_(False)
    for name, parameter in learnt.model.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    scheduler = learnt_schedule(DDIMScheduler(), predicts)
    return ConsistencyTask(
        learnt.model,
        flows,
        learnt.data,
        scheduler,
        jumps=Jumps(scheduler, solver_steps, phases),
        guidance_scales=SCALES,
    )


def drawn(task: ConsistencyTask, flow: Flow, count: int) -> list[torch.Tensor]:
    """Latents, tokens, noise and timesteps of a batch."""
    batch = task.draw(Generator().manual_seed(0), count)
    return [batch[f"{flow}/{part}"] for part in ("latents", "tokens", "noise", "timesteps")]


def test_phases_end_where_the_sampler_steps() -> None:
    cut = jumps()
    assert cut.timesteps.tolist()[:3] == [999, 949, 899]
    assert cut.end(torch.tensor([999, 949, 799, 749, 249, 49])).tolist() == [749, 749, 749, 499, 0, 0]
    assert cut.after(torch.tensor([999, 799, 49])).tolist() == [949, 749, 0]
    whole = jumps(phases=1)
    assert whole.end(whole.timesteps).eq(0).all()
    with pytest.raises(ValueError, match="no more phases than solver_steps"):
        Jumps(DDIMScheduler(), 3, 4)


@pytest.mark.parametrize("predicts", PREDICTION_TYPES)
def test_a_jump_of_the_truth_leads_along_it(predicts: str) -> None:
    cut = jumps(predicts)
    scheduler = learnt_schedule(DDIMScheduler(), predicts)
    clean, noise = (torch.randn(3, 4, 2, 2, generator=Generator().manual_seed(seed)) for seed in (0, 1))
    start, end = torch.tensor([999, 749, 99]), torch.tensor([749, 0, 99])
    noisy, expected = (scheduler.add_noise(clean, noise, each) for each in (start, end))  # pyright: ignore[reportArgumentType]
    velocity = scheduler.get_velocity(clean, noise, start)  # pyright: ignore[reportArgumentType]
    predicted = {"epsilon": noise, "sample": clean, "v_prediction": velocity}[predicts]
    torch.testing.assert_close(cut.jump(noisy, predicted, start, end), expected, atol=1e-4, rtol=1e-4)


def test_the_teacher_is_the_model_without_its_lora_and_guided() -> None:
    task = student()
    flow = ALL_FLOWS[1]
    latents, tokens, noise, timesteps = drawn(task, flow, 3)
    assert set(timesteps.tolist()) <= set(task.jumps.timesteps.tolist())
    noisy = task.scheduler.add_noise(latents, noise, timesteps)  # pyright: ignore[reportArgumentType]
    with torch.no_grad():
        before = task.guided(task.model, flow, tokens, 2.0)(noisy, timesteps)
        for name, parameter in task.model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(parameter)
        changed = task.guided(task.model, flow, tokens, 2.0)(noisy, timesteps)
        with without_loras(task.model):
            again = task.guided(task.model, flow, tokens, 2.0)(noisy, timesteps)
    assert not torch.allclose(before, changed)
    torch.testing.assert_close(before, again)
    assert all(each.requires_grad for name, each in task.model.named_parameters() if ".lora_" in name)


def test_passes_that_are_computed_at_once_find_the_lora_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    task = student()
    passes = list(task.passes(task.draw(Generator().manual_seed(0), 2)))

    def refused(_: object) -> None:
        raise AssertionError("a pass switched the LoRA off")

    monkeypatch.setattr("versatile_diffusion.training.tasks.consistency.without_loras", refused)
    losses = {name: loss for compute in passes for name, loss in compute().items()}
    assert losses.keys() == set(map(str, ALL_FLOWS)) and all(loss.requires_grad for loss in losses.values())


def test_a_student_learns_to_jump_where_its_teacher_walks(tmp_path: Path) -> None:
    flow = ALL_FLOWS[2]
    task = student("epsilon", [flow], solver_steps=4, phases=2)
    latents, tokens, noise, _ = drawn(task, flow, 4)
    start = torch.full((4,), 999)
    noisy = task.scheduler.add_noise(latents, noise, start)  # pyright: ignore[reportArgumentType]
    cut, end = task.jumps, task.jumps.end(start)
    with torch.no_grad(), without_loras(task.model):
        walked, timesteps = noisy, start
        while timesteps[0] != end[0]:
            guided = task.guided(task.model, flow, tokens, SCALES["image"])(walked, timesteps)
            walked = cut.jump(walked, guided, timesteps, cut.after(timesteps))
            timesteps = cut.after(timesteps)

    @torch.no_grad()
    def error() -> float:
        predicted = task.model(noisy, start, flow.output, [ContextTokens(flow.context, tokens)])
        return float((cut.jump(noisy, predicted, start, end) - walked).abs().mean())

    before = error()
    Trainer(task, TrainingConfig(40, 8, 1e-2, warmup_steps=2, ema_decay=0.5), tmp_path).run()
    assert error() < 0.85 * before


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong, told in (({"train": "all"}, "to a LoRA"), ({"phases": 8, "solver_steps": 4}, "take fewer phases")):
        with pytest.raises(ValueError, match=told):
            checked(DistillationSettings, {"data": "x", **wrong})


# ---- the command ----

SMALL = ("--steps", "4", "--batch-size", "2", "--rank", "2", "--checkpoint-every", "2", "--sheet-every", "4")
CUT = ("--solver-steps", "4", "--phases", "2", "--learning-rate", "0.05", "--validation", "0.2")


def vd(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return drawn_data.folder(tmp_path_factory.mktemp("data"), 10)


@pytest.fixture(scope="module")
def fast(data: str, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA that the command made."""
    folder = tmp_path_factory.mktemp("runs") / "fast"
    done = vd("distill", str(model), "--data", data, "--output", str(folder), *SMALL, *CUT)
    assert done.exit_code == 0, done.output
    assert f"--lora {folder} --preset fast" in done.stdout.replace("\n", " ")
    return folder


def test_the_folder_is_a_lora_that_says_how_it_samples(fast: Path) -> None:
    told = json.loads((fast / "config.json").read_text())
    assert told["few_steps"] == {"scheduler": "tcd", "steps": 2, "solver_steps": 4} and told["rank"] == 2
    factors = load_file(fast / "lora.safetensors")
    assert {each.dtype for each in factors.values()} == {torch.float16}
    assert any(each.any() for name, each in factors.items() if ".lora_B." in name)
    assert "vd distill" in (fast / "README.md").read_text() and "--preset fast" in (fast / "index.html").read_text()


def test_it_goes_on_and_refuses_other_settings(fast: Path, data: str, model: Path) -> None:
    words = ("distill", str(model), "--data", data, "--output", str(fast), *SMALL, *CUT)
    before = (fast / "lora.safetensors").read_bytes()
    again = vd(*words)
    assert again.exit_code == 0, again.output
    assert (fast / "lora.safetensors").read_bytes() == before
    other = vd(*words, "--phases", "4")
    assert other.exit_code == 1 and "phases was 2 and is 4" in " ".join(other.stderr.split())
    trained = vd("train", data, "--start", str(model), "--output", str(fast))
    assert trained.exit_code == 1 and "run of another kind" in " ".join(trained.stderr.split())


def test_a_dry_run_tells_what_would_happen(
    data: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dry_run.SIZES, dry_run.OFFICIAL, lambda: replace(tiny(), diffuser=SHALLOW))
    shallow = save_shallow(VersatileDiffusionPipeline.from_pretrained(model), tmp_path / "shallow")
    words = (shallow, "--data", data, "--output", str(tmp_path / "run"), "--flows", "text-to-image", "--dry-run")
    told = vd("distill", *words, "--json", *SMALL, *CUT)
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert not (tmp_path / "run").exists() and found["step"]["seconds"] > 0
    assert {each["what"] for each in found["memory"]} == {"this model", "the official model"}


def test_it_samples_in_few_steps_without_guidance(fast: Path, model: Path) -> None:
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    plain = pipe.text_to_image("a red tent", seeds=(1,), output_type="latent", num_inference_steps=2).latents
    pipe.load_lora(fast)
    made = pipe.text_to_image("a red tent", seeds=(1,), output_type="latent", **FAST)
    told = made.request
    assert (told.preset, told.num_inference_steps, told.scheduler, told.guidance_scale) == ("fast", 2, "tcd", 1)
    again = pipe.text_to_image("a red tent", seeds=(1,), output_type="latent", num_inference_steps=2).latents
    assert torch.equal(plain, again), "what is guided stays as it was"
