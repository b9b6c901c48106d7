import warnings
from typing import Any

import diffusers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from versatile_diffusion.checkpoints.components import official_scheduler
from versatile_diffusion.sampling.sampler import Denoiser, Schedule, Step, StepChange, count_steps, draw_noise, sample

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DDIM": ("DDIMScheduler", {}),
    "DPM-Solver++ 2M": ("DPMSolverMultistepScheduler", {}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "PNDM": ("PNDMScheduler", {}),
    "PNDM without Runge-Kutta": ("PNDMScheduler", {"skip_prk_steps": True}),
    "LMS": ("LMSDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "Euler, ancestral": ("EulerAncestralDiscreteScheduler", {}),
}
_CLEAN = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]])


def make(name: str) -> Any:
    class_name, options = SCHEDULERS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(diffusers, class_name).from_config(official_scheduler().config, **options)


def knows(clean: Tensor, scheduler: Any) -> Denoiser:
    """A denoiser that knows what the latents are without noise."""
    alphas = official_scheduler().alphas_cumprod
    with_sigmas = hasattr(scheduler, "is_scale_input_called")  # these scale what the denoiser is given

    def denoise(latents: Tensor, timestep: Tensor) -> Tensor:
        low, high = int(timestep.floor()), min(int(timestep.floor()) + 1, 999)
        at = float(timestep) - low
        if with_sigmas:  # and interpolate sigma between timesteps
            sigmas = ((1 - alphas) / alphas).sqrt()
            alpha = 1 / (1 + (sigmas[low] * (1 - at) + sigmas[high] * at) ** 2)
        else:
            alpha = alphas[low] * (1 - at) + alphas[high] * at
        return (latents - alpha.sqrt() * clean) / (1 - alpha).sqrt()

    return denoise


def generators(number: int = 2) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in range(number)]


@pytest.mark.parametrize("strength", [1, 0.5])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_arrives_where_a_perfect_denoiser_points(name: str, strength: float) -> None:
    scheduler = make(name)
    schedule = Schedule.plan(scheduler, 20, strength)
    noise = draw_noise(_CLEAN.shape, generators())
    start = None if strength == 1 else torch.zeros_like(_CLEAN)
    result = sample(
        knows(_CLEAN, scheduler), noise, schedule, start=start, generators=generators(),
    )  # fmt: skip
    # DDIM and PNDM end at the least noise of training, the others at none
    assert (result - _CLEAN).abs().max() < (1e-4 if hasattr(scheduler, "sigmas") else 0.076)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_draws_from_the_generators_alone(name: str) -> None:
    scheduler = make(name)

    def run(rows: slice) -> Tensor:
        drawn = generators()[rows]
        noise = draw_noise(_CLEAN[rows].shape, drawn)
        schedule = Schedule.plan(scheduler, 6, 0.7)
        return sample(lambda x, t: 0.3 * x, noise, schedule, start=_CLEAN[rows], generators=drawn, eta=0.5)

    together = run(slice(0, 2))
    assert torch.equal(together, run(slice(0, 2)))
    torch.testing.assert_close(together, torch.cat([run(slice(0, 1)), run(slice(1, 2))]))


def test_the_official_timesteps() -> None:
    assert Schedule.plan(official_scheduler(), 50).timesteps.tolist() == list(range(981, 0, -20))
    assert Schedule.plan(official_scheduler(), 50, 0.74).timesteps.tolist() == list(range(721, 0, -20))


@given(st.integers(1, 200), st.floats(0, 1), st.floats(0, 1))
def test_more_strength_takes_no_fewer_steps(steps: int, strength: float, other: float) -> None:
    low, high = sorted((strength, other))
    assert 0 <= count_steps(steps, low) <= count_steps(steps, high) <= steps
    assert (count_steps(steps, strength) == 0) == (strength == 0)


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_a_share_of_the_steps_is_that_many(steps: tuple[int, int]) -> None:
    whole, part = steps
    assert count_steps(whole, part / whole) == part
    assert count_steps(whole, 1 - (1 - part / whole)) == part


@pytest.mark.parametrize(("steps", "strength"), [(0, 1.0), (-1, 1.0), (5, -0.1), (5, 1.1), (5, float("nan"))])
def test_numbers_out_of_range(steps: int, strength: float) -> None:
    with pytest.raises(ValueError, match="must"):
        count_steps(steps, strength)


def test_strength_0_keeps_the_start() -> None:
    schedule = Schedule.plan(official_scheduler(), 10, 0)
    assert sample(lambda x, t: x, torch.ones_like(_CLEAN), schedule, start=_CLEAN) is _CLEAN


def test_eta_draws_anew() -> None:
    def run(eta: float, seed: int) -> Tensor:
        drawn = [Generator().manual_seed(seed), Generator().manual_seed(seed)]
        schedule = Schedule.plan(official_scheduler(), 5)
        return sample(lambda x, t: 0.3 * x, _CLEAN, schedule, generators=drawn, eta=eta)

    assert torch.equal(run(0, 0), run(0, 1))
    assert torch.equal(run(1, 0), run(1, 0))
    assert not torch.allclose(run(1, 0), run(1, 1))


def test_what_is_called_after_a_step_may_change_the_latents_and_stop() -> None:
    seen: list[tuple[int, int]] = []

    def on_step(step: Step) -> StepChange:
        seen.append((step.number, int(step.timestep)))
        return StepChange(latents=step.latents * 0, stop=step.number == 2)

    schedule = Schedule.plan(official_scheduler(), 4)
    result = sample(lambda x, t: x, _CLEAN, schedule, on_step=on_step)
    assert seen == [(1, 751), (2, 501)]
    assert not result.any()
