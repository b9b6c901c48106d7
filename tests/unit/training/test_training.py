import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor, nn

from tests.processes import start
from tests.unit.training.diffuser_runs import ALL_FLOWS, four_flow_task
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.loop import checkpoint
from versatile_diffusion.training.loop.metric_logger import read_log
from versatile_diffusion.training.loop.task import Batch, Pass, Task, TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer, average_decay, draw, learning_rate
from versatile_diffusion.training.stages.latent_cache import LatentCache
from versatile_diffusion.training.stages.model_training import flow_multiples
from versatile_diffusion.worlds.postcards.recipe import tiny_recipe


class Line(Task):
    """Learns y = 3 x from noisy samples."""

    def __init__(self) -> None:
        self.model = nn.Linear(1, 1)
        nn.init.zeros_(self.model.weight)
        nn.init.zeros_(self.model.bias)
        self.interrupt_at: int | None = None
        self.drawn = 0

    def draw(self, generator: Generator, size: int) -> Batch:
        self.drawn += 1
        if self.drawn == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)
        x = torch.randn(size, 1, generator=generator)
        return {"x": x, "y": 3 * x + 0.01 * torch.randn(size, 1, generator=generator)}

    def passes(self, batch: Batch) -> Iterator[Pass]:
        yield lambda: {"error": (self.model(batch["x"]) - batch["y"]).square().mean()}

    def preview(self, model: nn.Module) -> dict[str, Tensor | str]:
        return {"picture": torch.full((3, 4, 4), 0.5), "text": f"{model.weight.item():.2f}"}  # pyright: ignore


CONFIG = TrainingConfig(steps=20, batch_size=4, learning_rate=0.1, warmup_steps=2, checkpoint_every=8, log_every=3)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


configs = st.builds(
    TrainingConfig,
    steps=st.integers(1, 1000),
    batch_size=st.just(1),
    learning_rate=st.floats(1e-6, 1),
    warmup_steps=st.integers(0, 200),
    final_rate=st.floats(0, 1),
    ema_decay=st.floats(0.5, 0.9999),
)


@given(configs)
@settings(deadline=None, max_examples=30)
def test_the_learning_rate_rises_to_its_highest_then_falls_to_its_share(config: TrainingConfig) -> None:
    rates = [learning_rate(config, step) for step in range(config.steps + 1)]
    warm = min(max(config.warmup_steps - 1, 0), config.steps)
    assert all(0 <= rate <= config.learning_rate * (1 + 1e-9) for rate in rates)
    assert all(a >= b - 1e-12 for a, b in zip(rates[warm:], rates[warm + 1 :], strict=False))
    if config.warmup_steps <= config.steps:
        assert rates[-1] == pytest.approx(config.learning_rate * config.final_rate)
    if config.warmup_steps > 1:
        assert rates[0] == pytest.approx(config.learning_rate / config.warmup_steps)


@given(configs)
@settings(deadline=None, max_examples=30)
def test_the_average_first_remembers_little_and_then_as_told(config: TrainingConfig) -> None:
    decays = [average_decay(config, step) for step in range(0, 100_001, 500)]
    assert decays[0] <= 0.1 and decays == sorted(decays)
    assert decays[-1] == config.ema_decay


def test_the_average_forgets_its_random_start(tmp_path: Path) -> None:
    task = Line()
    nn.init.constant_(task.model.weight, 1000.0)  # pyright: ignore
    trainer = Trainer(task, CONFIG, tmp_path)
    trainer.update()
    nn.init.constant_(task.model.weight, 3.0)  # pyright: ignore
    for _ in range(19):
        trainer.update()
    assert trainer.average.tensors["weight"].item() < 100


def test_draws_are_a_function_of_seed_and_step() -> None:
    task = four_flow_task()
    config = TrainingConfig(steps=1, batch_size=3, learning_rate=1.0, seed=5)
    first = draw(task, config, 7)
    torch.manual_seed(123)
    again, other = draw(task, config, 7), draw(task, config, 8)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_processes_draw_the_parts_of_one_larger_batch() -> None:
    task = four_flow_task()
    small = TrainingConfig(steps=1, batch_size=3, learning_rate=1.0)
    whole = draw(task, TrainingConfig(steps=1, batch_size=6, learning_rate=1.0), 4)
    parts = [draw(task, small, 4, rank, 2) for rank in range(2)]
    assert all(torch.equal(torch.cat([part[name] for part in parts]), whole[name]) for name in whole)


def test_losses_fall_and_are_logged(tmp_path: Path) -> None:
    trainer = Trainer(Line(), CONFIG, tmp_path)
    trainer.run()
    log = read_log(tmp_path / "log.jsonl")
    assert [line["step"] for line in log] == [3, 6, 9, 12, 15, 18, 20]
    assert log[-1]["error"] < 0.8 * log[0]["error"]
    assert log[-1]["learning_rate"] == learning_rate(CONFIG, 19)
    assert log[0]["seconds"] <= log[-1]["seconds"]


def test_previews_reach_tensorboard_and_steps_are_not_repeated(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    Trainer(Line(), CONFIG, tmp_path).run()
    (tmp_path / "step-00000020").rename(tmp_path / "gone")  # as if killed before the last checkpoint
    Trainer(Line(), CONFIG, tmp_path).run()
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [3, 6, 9, 12, 15, 18, 20]
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss/error")] == [3, 6, 9, 12, 15, 18, 20]
    assert [event.step for event in events.Images("picture")] == [20]
    assert "text/text_summary" in events.Tags()["tensors"]


def test_a_run_goes_on_where_its_last_whole_checkpoint_is(tmp_path: Path) -> None:
    whole = weights(Trainer(Line(), CONFIG, tmp_path / "whole").run())
    Trainer(Line(), CONFIG, tmp_path / "cut").run()
    (tmp_path / "cut" / "step-00000020").rename(tmp_path / "cut" / ".unfinished")
    (tmp_path / "cut" / ".unfinished" / "model.safetensors").write_bytes(b"half a file")
    trainer = Trainer(Line(), CONFIG, tmp_path / "cut")
    assert trainer.resume() and trainer.step == 16 and trainer.seconds > 0
    again = weights(trainer.run())
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "cut")] == ["step-00000016", "step-00000020"]
    assert not (tmp_path / "cut" / ".unfinished").exists()


def test_a_finished_run_is_read_and_not_trained(tmp_path: Path) -> None:
    first = weights(Trainer(Line(), CONFIG, tmp_path).run())
    task = Line()
    again = weights(Trainer(task, CONFIG, tmp_path).run())
    assert task.drawn == 0 and all(torch.equal(first[name], again[name]) for name in first)


def interrupted(folder: str) -> None:
    """Trains until Ctrl-C is pressed, after which all is as before."""
    task = Line()
    task.interrupt_at = 5
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        Trainer(task, CONFIG, Path(folder)).run()
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_saves_what_was_learnt(tmp_path: Path) -> None:
    running = start(interrupted, str(tmp_path))  # the browser of other tests may hear of signals here
    assert running.returncode == 0, running.stderr
    trainer = Trainer(Line(), CONFIG, tmp_path)
    assert trainer.resume() and trainer.step == 5
    whole = weights(Trainer(Line(), CONFIG, tmp_path / "whole").run())
    again = weights(trainer.run())
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_checkpoint_without_seconds_is_read(tmp_path: Path) -> None:
    Trainer(Line(), CONFIG, tmp_path).run()
    (tmp_path / "step-00000020" / "state.json").write_text(json.dumps({"step": 20}))
    trainer = Trainer(Line(), CONFIG, tmp_path)
    assert trainer.resume() and (trainer.step, trainer.seconds) == (20, 0.0)


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    task = Line()
    nn.init.constant_(task.model.bias, float("nan"))  # pyright: ignore
    with pytest.raises(FloatingPointError, match=r"Step 0: error is no longer .* lower learning_rate"):
        Trainer(task, CONFIG, tmp_path).run()


def test_gradients_of_all_flows_are_summed_and_scaled_by_group(tmp_path: Path) -> None:
    config = TrainingConfig(steps=1, batch_size=6, learning_rate=1.0)

    def gradients(**options: object) -> dict[str, Tensor]:
        trainer = Trainer(four_flow_task(**options), config, tmp_path)  # pyright: ignore
        trainer.backward()
        return {name: p.grad for name, p in trainer.model.named_parameters() if p.grad is not None}

    plain = gradients()
    scaled = gradients(gradient_scales={"data_layers.image": 0.2, "global_layers": 0.1})
    for name, gradient in plain.items():
        scale = 0.2 if name.startswith("data_layers.image") else 0.1 if name.startswith("global_layers") else 1.0
        torch.testing.assert_close(scaled[name], scale * gradient, msg=name)
    task = four_flow_task()
    losses = [loss for compute in task.passes(draw(task, config, 0)) for loss in compute().values()]
    names, parameters = zip(*task.model.named_parameters(), strict=True)
    together = torch.autograd.grad(torch.stack(losses).sum(), parameters)
    for name, gradient in zip(names, together, strict=True):
        torch.testing.assert_close(plain[name], gradient, msg=name)


def test_only_layers_of_active_flows_have_gradients(tmp_path: Path) -> None:
    trainer = Trainer(four_flow_task([Flow("text", "image")]), CONFIG, tmp_path)
    trainer.backward()
    learning = {name.rsplit(".", 1)[0] for name, p in trainer.model.named_parameters() if p.grad is not None}
    assert any(name.startswith("context_layers.text") for name in learning)
    assert not any(name.startswith(("context_layers.image", "data_layers.text")) for name in learning)


def test_a_tenth_of_the_samples_has_no_context() -> None:
    task = four_flow_task(context_dropout=0.1)
    batch = task.draw(Generator().manual_seed(0), 4000)
    for flow in ALL_FLOWS:
        dropped = (batch[f"{flow}/tokens"] == 9.0).all(dim=(1, 2)).float().mean().item()
        assert dropped == pytest.approx(0.1, abs=0.02)


def test_text_variations_learn_from_another_text_and_pictures_from_whole_texts() -> None:
    data = four_flow_task().data
    assert isinstance(data, LatentCache)
    index = torch.arange(20).repeat(10)
    texts = {name: data.part(f"text/{name}").float() for name in ("latents", "tokens")}
    latents, tokens = data.pairs(Flow("text", "text"), index, Generator().manual_seed(0))
    view = (texts["latents"][index] == latents[:, None]).all(-1).float().argmax(1)
    seen = (texts["tokens"][index] == tokens[:, None]).all(-1).all(-1).float().argmax(1)
    assert torch.equal(seen, view ^ 1) and set(view.tolist()) == {0, 1, 2, 3}
    latents, _ = data.pairs(Flow("image", "text"), index, Generator().manual_seed(0))
    assert set((texts["latents"][index] == latents[:, None]).all(-1).float().argmax(1).tolist()) == {2, 3}


def test_min_snr_weighs_easy_steps_less_and_hard_steps_fully() -> None:
    task, timesteps = four_flow_task(min_snr=5.0), torch.arange(1000)
    weights = task._weights(timesteps)
    alphas = task.scheduler.alphas_cumprod
    snr = alphas / (1 - alphas)
    torch.testing.assert_close(weights, torch.where(snr > 5, 5 / snr, torch.ones(1000)), rtol=1e-4, atol=1e-6)
    assert weights[0] < 0.01 and weights[-1] == 1
    assert torch.equal(four_flow_task()._weights(timesteps), torch.ones(1000))


def test_a_tiny_diffuser_learns_all_flows_of_a_batch_by_heart(tmp_path: Path) -> None:
    task = four_flow_task()
    batch = task.draw(Generator().manual_seed(0), 4)
    task.draw_share = lambda generator, size, share: batch
    Trainer(task, TrainingConfig(25, 4, 3e-3, warmup_steps=2, log_every=1), tmp_path).run()
    first, losses = read_log(tmp_path / "log.jsonl")[0], dict[str, float]()
    for compute in task.passes(batch):
        losses |= {name: loss.item() for name, loss in compute().items()}
    for flow in ALL_FLOWS:
        assert losses[str(flow)] < 0.9 * first[str(flow)]


def test_flows_take_more_samples_if_told_and_processes_share_them() -> None:
    task = four_flow_task(multiples={flow: 3 for flow in ALL_FLOWS if flow.output == "text"})
    config = TrainingConfig(steps=1, batch_size=2, learning_rate=1.0)
    batch = draw(task, config, 0)
    assert {len(batch[f"{flow}/latents"]) for flow in ALL_FLOWS if flow.output == "text"} == {6}
    assert {len(batch[f"{flow}/latents"]) for flow in ALL_FLOWS if flow.output == "image"} == {2}
    whole = draw(task, TrainingConfig(steps=1, batch_size=4, learning_rate=1.0), 0)
    parts = [draw(task, config, 0, rank, 2) for rank in range(2)]
    assert all(torch.equal(torch.cat([part[name] for part in parts]), whole[name]) for name in whole)


def test_a_recipe_says_how_many_samples_each_flow_takes() -> None:
    found = flow_multiples(replace(tiny_recipe(), text_to_image_multiple=2, text_multiple=5))
    assert {str(flow): count for flow, count in found.items()} == {
        "text-to-image": 2,
        "image-to-text": 5,
        "text-variation": 5,
    }
