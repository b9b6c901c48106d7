"""A few-step LoRA of a model: found, loaded when it is asked for, stacked, kept by whatever saves, told by records."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from versatile_diffusion import FAST, VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import convert
from versatile_diffusion.checkpoints.errors import CheckpointError
from versatile_diffusion.checkpoints.hub import needed
from versatile_diffusion.cli import app
from versatile_diffusion.context import Context
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.workers import LocalWorker
from versatile_diffusion.pipeline.few_step_lora import FewStepLora
from versatile_diffusion.pipeline.lora import write_lora
from versatile_diffusion.pipeline.lora_layers import adaptable_layers
from versatile_diffusion.sampling.few_steps import FewSteps
from versatile_diffusion.sampling.options import SchedulerName

FEW = FewSteps(scheduler=SchedulerName.TCD, steps=4, solver_steps=20)
Pipe = VersatileDiffusionPipeline


def random_lora(diffuser: Diffuser, folder: Path, few: FewSteps | None, seed: int = 0) -> Path:
    """A LoRA that changes all layers at random."""
    generator, factors = torch.Generator().manual_seed(seed), dict[str, Tensor]()
    for path, layer in adaptable_layers(diffuser):
        out, *inner = layer.weight.shape
        factors[f"{path}.lora_A.weight"] = 0.1 * torch.randn(2, *inner, generator=generator)
        factors[f"{path}.lora_B.weight"] = 0.1 * torch.randn(out, 2, *(1 for _ in inner[1:]), generator=generator)
    write_lora(diffuser, factors, folder, few)
    return folder


@pytest.fixture(scope="module")
def fast(session_pipe: Pipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_lora(session_pipe.diffuser, tmp_path_factory.mktemp("loras") / "fast", FEW)


@pytest.fixture(scope="module")
def carrying(model: Path, fast: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that carries a few-step LoRA."""
    pipe = Pipe.from_pretrained(model)
    pipe.load_lora(fast)
    folder = tmp_path_factory.mktemp("models") / "carrying"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture
def opened(carrying: Path) -> Iterator[Pipe]:
    pipe = Pipe.from_pretrained(carrying)
    pipe.set_progress_bar_config(disable=True)
    yield pipe


def latents(pipe: Pipe, **options: Any) -> Tensor:
    return pipe.text_to_image("a red tent", seeds=(1,), output_type="latent", **options).latents


def test_it_is_read_when_it_is_asked_for_and_takes_four_evaluations(
    opened: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    forward = Diffuser.forward

    def counted(self: Diffuser, *arguments: Any) -> Tensor:
        predicted = forward(self, *arguments)
        rows.append(len(predicted))
        return predicted

    monkeypatch.setattr(Diffuser, "forward", counted)
    made = 0
    make = FewStepLora._make

    def counting(self: FewStepLora, diffuser: Diffuser) -> Diffuser:
        nonlocal made
        made += 1
        return make(self, diffuser)

    monkeypatch.setattr(FewStepLora, "_make", counting)
    assert opened.few_steps == FEW and made == 0
    plain = latents(opened, num_inference_steps=2)
    assert made == 0
    rows.clear()
    few = latents(opened, **FAST)
    assert sum(rows) == 4 and made == 1
    assert torch.equal(latents(opened, num_inference_steps=2), plain), "what is guided stays as it was"
    assert torch.equal(latents(opened, **FAST), few) and made == 1
    rows.clear()
    for steps in (8, 2, 1):
        latents(opened, **{**FAST, "num_inference_steps": steps})
    assert sum(rows) == 11
    opened.preset = "fast"
    assert torch.equal(latents(opened), few)


def test_it_is_the_sum_of_its_weights_and_the_models(opened: Pipe, model: Path, fast: Path) -> None:
    changed = opened.few_step_lora
    assert changed is not None
    plain = Pipe.from_pretrained(model)
    config = json.loads((fast / "config.json").read_text())
    del config["few_steps"]
    ordinary = fast.parent / "ordinary"
    ordinary.mkdir()
    (ordinary / "config.json").write_text(json.dumps(config))
    (ordinary / "lora.safetensors").write_bytes((fast / "lora.safetensors").read_bytes())
    plain.load_lora(ordinary)
    plain.fuse_and_unload_lora()
    ours, theirs = changed.applied_to(opened.diffuser).state_dict(), plain.diffuser.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name])


def test_other_loras_lie_below_it(opened: Pipe, tmp_path: Path) -> None:
    alone = latents(opened, **FAST)
    name = opened.load_lora(random_lora(opened.diffuser, tmp_path / "style", None, seed=7))
    both = latents(opened, **FAST)
    assert not torch.allclose(both, alone)
    opened.set_adapters({name: 0.5})
    assert not torch.allclose(latents(opened, **FAST), both)
    opened.unload_lora()
    torch.testing.assert_close(latents(opened, **FAST), alone)


def test_packed_or_not_it_makes_the_same(opened: Pipe) -> None:
    plain = latents(opened, **FAST)
    opened.pack()
    torch.testing.assert_close(latents(opened, **FAST), plain, atol=1e-4, rtol=1e-3)


def test_what_openvino_runs_it_runs_as_well(opened: Pipe) -> None:
    pytest.importorskip("openvino")
    plain = latents(opened, **FAST)
    opened.compile(backend="openvino")
    torch.testing.assert_close(latents(opened, **FAST), plain, atol=1e-3, rtol=1e-3)


def test_guidance_and_other_schedulers_take_the_better_solver(opened: Pipe) -> None:
    for options in ({"guidance_scale": 3.0}, {"negative": "a house"}, {"scheduler": "unipc"}):
        made = opened.text_to_image("a red tent", seeds=(1,), output_type="latent", **FAST, **options)
        assert (made.request.preset, made.request.num_inference_steps) == (None, 8)


def test_whatever_saves_keeps_it(carrying: Path, opened: Pipe, tmp_path: Path) -> None:
    opened.save_pretrained(tmp_path / "saved")
    convert(carrying, tmp_path / "converted", flows=None)
    for name in ("saved", "converted"):
        for file in ("config.json", "lora.safetensors"):
            assert (tmp_path / name / "fast" / file).read_bytes() == (carrying / "fast" / file).read_bytes()
    files = ["model_index.json", "diffuser/config.json", "fast/config.json", "fast/lora.safetensors"]
    assert {"fast/config.json", "fast/lora.safetensors"} <= set(needed(files, None))


def test_a_folder_that_does_not_say_how_it_samples_is_refused(carrying: Path, fast: Path, tmp_path: Path) -> None:
    convert(carrying, tmp_path / "model")
    config = json.loads((fast / "config.json").read_text())
    (tmp_path / "model" / "fast" / "config.json").write_text(json.dumps({**config, "few_steps": {"steps": 0}}))
    with pytest.raises(CheckpointError, match="does not say how it samples"):
        Pipe.from_pretrained(tmp_path / "model")


def test_the_engine_resolves_it_before_it_costs_anything(opened: Pipe) -> None:
    worker = LocalWorker({"model": opened})
    assert worker.models["model"].few_steps == FEW
    job = JobRequest.of("model", "image", [Context("text", "a red tent")], (1,), preset="fast")
    request = job.resolved(worker.models["model"].few_steps).request
    assert (request.num_inference_steps, request.guidance_scale, request.scheduler) == (4, 1.0, "tcd")


def test_the_command_line_makes_and_replays(model: Path, fast: Path, tmp_path: Path) -> None:
    exact = ("--model", str(model), "--device", "cpu", "--dtype", "fp32")
    file = tmp_path / "tent.png"
    words = ("text-to-image", "a red tent", "--seed", "1", "--output", str(file), "--preset", "fast")
    made = CliRunner().invoke(app, [*words, "--lora", str(fast), *exact, "--json"])
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)[0]
    assert (told["preset"], told["steps"], told["scheduler"]) == ("fast", 4, "tcd")
    replayed = CliRunner().invoke(app, ["replay", str(file), "--model", str(model), "--lora", str(fast)])
    assert replayed.exit_code == 0 and "pixel for pixel" in replayed.output, replayed.output
    missing = CliRunner().invoke(app, ["replay", str(file), "--model", str(model)])
    assert missing.exit_code == 1
