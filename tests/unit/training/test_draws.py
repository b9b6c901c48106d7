"""What a step draws: contexts that are left out, and noise that is the same all over a channel."""

import pytest
import torch
from torch import Generator, Tensor

from tests.unit.training.diffuser_runs import ALL_FLOWS, four_flow_task
from versatile_diffusion.training.loop.task import Batch


def batch(**options: object) -> Batch:
    return four_flow_task(**options).draw(Generator().manual_seed(0), 2000)  # pyright: ignore


def left_out(drawn: Batch, flow: object) -> float:
    return (drawn[f"{flow}/tokens"] == 9.0).all(dim=(1, 2)).float().mean().item()


def test_contexts_are_left_out_by_modality() -> None:
    drawn, of_default = batch(context_dropout={"text": 0.4, "image": 0.0}), batch(context_dropout={"text": 0.4})
    for flow in ALL_FLOWS:
        share = 0.4 if flow.context == "text" else 0.0
        assert left_out(drawn, flow) == pytest.approx(share, abs=0.05)
        assert left_out(of_default, flow) == pytest.approx(share or 0.1, abs=0.03 + share)


def timesteps(**options: object) -> Tensor:
    return four_flow_task(**options).draw_timesteps(2000, Generator().manual_seed(0))  # pyright: ignore


def test_a_shift_learns_noisy_latents_more_often_and_1_changes_nothing() -> None:
    plain, noisier, cleaner = timesteps(), timesteps(timestep_shift=3.0), timesteps(timestep_shift=1 / 3)
    assert torch.equal(plain, torch.randint(1000, (2000,), generator=Generator().manual_seed(0)))
    assert (noisier >= plain).all() and (cleaner <= plain).all() and cleaner.min() >= 0 and noisier.max() <= 999
    assert noisier.median().item() == pytest.approx(750, abs=20)  # s·u / (1 + (s - 1)·u) of a half
    assert cleaner.median().item() == pytest.approx(250, abs=20)


def test_offset_noise_is_the_same_all_over_a_channel_and_only_of_latents_that_have_such() -> None:
    plain, offset = batch(), batch(noise_offset=0.1)
    changes: dict[str, Tensor] = {str(f): offset[f"{f}/noise"] - plain[f"{f}/noise"] for f in ALL_FLOWS[:1]}
    for change in changes.values():
        assert change.std((2, 3)).max() < 1e-6
        assert change.mean((2, 3)).std().item() == pytest.approx(0.1, rel=0.05)
        assert change.mean((2, 3)).mean().abs() < 0.01
    texts = [flow for flow in ALL_FLOWS if flow.output == "text"]
    assert all(offset[f"{flow}/noise"].std().item() == pytest.approx(1, abs=0.02) for flow in texts)
    assert torch.equal(plain[f"{ALL_FLOWS[0]}/noise"], batch(noise_offset=0.0)[f"{ALL_FLOWS[0]}/noise"])
