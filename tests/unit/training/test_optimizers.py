"""Every optimizer and precision: what resumes equals what was never interrupted, and steps of no use are not taken."""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Generator, Tensor, nn

from tests.unit.training.diffuser_runs import four_flow_task
from versatile_diffusion.training.loop import optimizers
from versatile_diffusion.training.loop.checkpoint import checkpoints
from versatile_diffusion.training.loop.metric_logger import LOG, read_log
from versatile_diffusion.training.loop.muon import Muon
from versatile_diffusion.training.loop.task import Batch, Pass, Task, TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.settings.choices import AveragePlace, OptimizerName

CONFIG = TrainingConfig(6, 8, 1e-2, warmup_steps=1, checkpoint_every=3, keep_checkpoints=5, log_every=6)


class Turning(Task[nn.Module]):
    """Learns to turn vectors around, with layers that are large enough to be remembered in 8 bits."""

    def __init__(self, factor: float = 1.0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))
        self.factor = factor

    def draw(self, generator: Generator, size: int) -> Batch:
        return {"x": torch.randn(size, 64, generator=generator)}

    def passes(self, batch: Batch) -> Iterator[Pass]:
        x = batch["x"]
        yield lambda: {"error": self.factor * (self.model(x) - x.flip(-1)).square().mean()}


def trained(folder: Path, config: TrainingConfig, precision: str = "no", factor: float = 1.0) -> Trainer[Any]:
    trainer = Trainer(Turning(factor), config, folder, mixed_precision=precision)
    trainer.run()
    return trainer


@pytest.mark.filterwarnings("ignore:Step .* was skipped")
@pytest.mark.parametrize("optimizer", OptimizerName)
@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_what_resumes_equals_what_was_never_interrupted(
    optimizer: OptimizerName, precision: str, tmp_path: Path
) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    factor = 3e2 if precision == "fp16" else 1.0  # so large that the first steps are skipped
    trained(tmp_path / "whole", config, precision, factor)
    shutil.copytree(tmp_path / "whole" / "step-00000003", tmp_path / "cut" / "step-00000003")
    trained(tmp_path / "cut", config, precision, factor)
    one, other = (load_file(tmp_path / run / "step-00000006" / "state.safetensors") for run in ("whole", "cut"))
    assert one.keys() == other.keys() and any(name.startswith("optimizer/") for name in one)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    memories = [json.loads((tmp_path / run / "step-00000006" / "state.json").read_text()) for run in ("whole", "cut")]
    assert {**memories[0], "seconds": 0} == {**memories[1], "seconds": 0}
    assert (memories[0].get("skipped", 0) > 0) == (precision == "fp16")


@pytest.mark.parametrize("optimizer", OptimizerName)
def test_every_optimizer_learns(optimizer: OptimizerName, tmp_path: Path) -> None:
    trainer = Trainer(Turning(), replace(CONFIG, steps=30, optimizer=optimizer), tmp_path)
    losses = [trainer.update()["error"] for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]


@given(st.integers(0, 2**32), st.floats(-30, 10), st.booleans())
@settings(deadline=None, max_examples=20)
def test_moments_of_8_bits_are_told_so_that_the_same_bits_come_back(seed: int, size: float, signed: bool) -> None:
    subclass = pytest.importorskip("torchao.optim.subclass_8bit")
    values = torch.randn(16, 512, generator=Generator().manual_seed(seed)) ** 3 * 10**size
    state, again = (subclass.OptimState8bit.zeros((16, 512), signed) for _ in range(2))
    state.copy_(values if signed else values.abs())
    again.copy_(optimizers._told(state))
    assert torch.equal(state.codes, again.codes) and torch.equal(state.scale, again.scale)


def test_a_run_does_not_go_on_with_another_optimizer(tmp_path: Path) -> None:
    trained(tmp_path, CONFIG)
    with pytest.raises(ValueError, match=r"step-00000006 is a checkpoint of another optimizer.*momentum_buffer"):
        trained(tmp_path, replace(CONFIG, steps=8, optimizer=OptimizerName.MUON))


@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_batches_before_an_update_equal_a_larger_one(precision: str, tmp_path: Path) -> None:
    def gradients(batch_size: int, accumulate: int = 1) -> tuple[dict[str, float], dict[str, Tensor]]:
        config = TrainingConfig(1, batch_size, learning_rate=1e-3, accumulate=accumulate)
        trainer = Trainer(four_flow_task(min_snr=5.0), config, tmp_path, mixed_precision=precision)
        losses = trainer.backward()
        scale = trainer.weights.scale
        return losses, {name: p.grad / scale for name, p in trainer.trained.items() if p.grad is not None}

    one, three = gradients(batch_size=6), gradients(batch_size=2, accumulate=3)
    tolerance = 1e-6 if precision == "no" else 1e-2
    assert three[0] == pytest.approx(one[0], abs=tolerance)
    largest = max(float(gradient.abs().max()) for gradient in one[1].values())
    for name, gradient in one[1].items():
        torch.testing.assert_close(three[1][name], gradient, rtol=0, atol=tolerance * max(largest, 1), msg=name)


def test_steps_whose_gradients_are_beyond_float16_are_skipped_and_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"Step 0 was skipped.*multiplied by 32768"):
        trainer = trained(tmp_path, replace(CONFIG, steps=20), "fp16", factor=3e2)
    assert 0 < trainer.weights.skipped < 15 and trainer.weights.scale < 65536
    assert read_log(tmp_path / LOG)[-1]["skipped"] == trainer.weights.skipped
    assert all(torch.isfinite(parameter).all() for parameter in trainer.parameters)


@pytest.mark.filterwarnings("ignore:Step .* was skipped")
@pytest.mark.parametrize("precision", ["no", "fp16"])
def test_a_gradient_that_is_no_number_ends_the_run_before_the_weights_take_it(precision: str, tmp_path: Path) -> None:
    class Failing(Turning):
        def passes(self, batch: Batch) -> Iterator[Pass]:
            def compute() -> dict[str, Tensor]:
                made = self.model(batch["x"])
                if trainer.step >= 4:
                    made.register_hook(lambda gradient: gradient * math.inf)
                return {"error": (made - batch["x"].flip(-1)).square().mean()}

            yield compute

    trainer = Trainer(Failing(), replace(CONFIG, steps=40), tmp_path, mixed_precision=precision)
    message = r"Step \d+: the gradient is no longer.*last good checkpoint is .*step-000000\d\d: go on from it"
    with pytest.raises(FloatingPointError, match=message):
        trainer.run()
    for path in checkpoints(tmp_path):
        assert all(torch.isfinite(tensor).all() for tensor in load_file(path / "state.safetensors").values())


def test_the_average_is_the_same_wherever_it_is_kept_or_the_weights(tmp_path: Path) -> None:
    found = {}
    for place in AveragePlace:
        trainer = trained(tmp_path / place, replace(CONFIG, average=place))
        found[place] = [parameter.detach().clone() for parameter in trainer.parameters]
        stored = load_file(checkpoints(tmp_path / place)[-1] / "state.safetensors")
        if place is AveragePlace.NONE:
            assert not [name for name in stored if name.startswith("average/")]
            weights = [stored[f"trained/{name}"] for name in trainer.trained]
            assert all(torch.equal(*pair) for pair in zip(weights, found[place], strict=True))
    assert all(torch.equal(*pair) for pair in zip(found[AveragePlace.DEVICE], found[AveragePlace.CPU], strict=True))
    assert not torch.equal(found[AveragePlace.DEVICE][0], found[AveragePlace.NONE][0])


def test_an_average_may_begin_in_the_middle_of_a_run(tmp_path: Path) -> None:
    trained(tmp_path, replace(CONFIG, average=AveragePlace.NONE))
    trainer = Trainer(Turning(), replace(CONFIG, steps=9), tmp_path)
    assert trainer.resume()
    assert all(torch.equal(trainer.average.tensors[name], parameter) for name, parameter in trainer.trained.items())
    trainer.run()
    assert not torch.equal(
        trainer.average.tensors["0.weight"],
        load_file(checkpoints(tmp_path)[0] / "state.safetensors")["trained/0.weight"],
    )


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (8, 40), (40, 8), (8, 1)])
def test_muon_takes_the_steps_of_pytorchs_own_on_matrices_and_on_kernels_as_matrices(shape: tuple[int, int]) -> None:
    generator = Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    ours, kernel, theirs = (nn.Parameter(start.clone()) for _ in range(3))
    kernel.data = kernel.data[:, :, None, None].to(memory_format=torch.channels_last)
    pytorchs = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    muon = Muon([ours, kernel], weight_decay=0.1)
    for group in muon.param_groups:
        group["lr"] = 0.1
    for _ in range(3):
        gradient = torch.randn(shape, generator=generator)
        ours.grad, kernel.grad, theirs.grad = gradient, gradient[:, :, None, None], gradient.clone()
        muon.step()
        pytorchs.step()
    length = float((start - theirs.detach()).norm())
    torch.testing.assert_close(ours, kernel[:, :, 0, 0])
    assert float((ours - theirs).detach().norm()) < 0.02 * length  # which computes in bfloat16
