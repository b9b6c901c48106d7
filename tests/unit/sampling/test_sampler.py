import warnings
from typing import Any

import diffusers
import pytest
import torch
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Generator, Tensor

from versatile_diffusion.checkpoints.components import official_scheduler
from versatile_diffusion.sampling.sampler import Denoiser, Schedule, Step, StepChange, count_steps, draw_noise, sample
from versatile_diffusion.sampling.schedulers import USABLE, check_scheduler, named_scheduler

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
SCHEDULERS |= {name: (name, {}) for name in USABLE if name not in {cls for cls, _ in SCHEDULERS.values()}}
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
    # these end at the least noise of training, the others at none
    ends_in_noise = not hasattr(scheduler, "sigmas") or name in ("DEISMultistepScheduler", "SASolverScheduler")
    assert (result - _CLEAN).abs().max() < (0.076 if ends_in_noise else 1e-4)


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


@pytest.mark.parametrize("predicts", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("name", ["ddim", "dpm", "unipc", "euler", "pndm", "lms"])
def test_models_may_predict_noise_velocity_or_the_latent(name: str, predicts: str) -> None:
    scheduler = type(named := named_scheduler(name, official_scheduler())).from_config(
        named.config, prediction_type=predicts
    )
    noise_in = knows(_CLEAN, scheduler)
    alphas = official_scheduler().alphas_cumprod
    sigmas = ((1 - alphas) / alphas).sqrt()

    def denoise(latents: Tensor, timestep: Tensor) -> Tensor:
        noise, low = noise_in(latents, timestep), int(timestep.floor())
        at = float(timestep) - low
        sigma = float(sigmas[low] * (1 - at) + sigmas[min(low + 1, 999)] * at)
        alpha = 1 / (1 + sigma**2) if hasattr(scheduler, "is_scale_input_called") else float(alphas[low])
        velocity = alpha**0.5 * noise - (1 - alpha) ** 0.5 * _CLEAN
        return {"epsilon": noise, "v_prediction": velocity, "sample": _CLEAN.expand_as(noise)}[predicts]

    if (name, predicts) == ("pndm", "sample"):  # which diffusers' PNDM does not know
        with pytest.raises(ValueError, match="prediction_type"):
            sample(denoise, torch.ones_like(_CLEAN), Schedule.plan(scheduler, 4))
        return
    made = sample(denoise, draw_noise(_CLEAN.shape, generators()), Schedule.plan(scheduler, 20))
    assert (made - _CLEAN).abs().max() < 0.08


@pytest.mark.parametrize(
    "name",
    [
        *("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "EDMEulerScheduler", "IPNDMScheduler"),
        *("EDMDPMSolverMultistepScheduler", "CMStochasticIterativeScheduler", "KarrasVeScheduler", "RePaintScheduler"),
        *("DDIMInverseScheduler", "ScoreSdeVeScheduler", "DDPMWuerstchenScheduler", "SCMScheduler"),
    ],
)
def test_schedulers_of_other_models_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be used here: .* Take one of CogVideoXDDIMScheduler, DDIM"):
        Schedule.plan(getattr(diffusers, name)(), 4)


def test_settings_that_no_model_of_noise_can_follow_are_named() -> None:
    ddim = official_scheduler()
    with pytest.raises(ValueError, match=r"rescale_betas_zero_snr.*v_prediction"):
        check_scheduler(type(ddim).from_config(ddim.config, rescale_betas_zero_snr=True))
    check_scheduler(type(ddim).from_config(ddim.config, rescale_betas_zero_snr=True, prediction_type="v_prediction"))
    flow = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    with pytest.raises(ValueError, match="flow sigmas cannot be used here"):
        check_scheduler(flow)
    with pytest.raises(ValueError, match="object cannot be used here: it has no config"):
        check_scheduler(object())


def test_a_walk_leaves_the_scheduler_as_it_is() -> None:
    scheduler = official_scheduler()
    before = scheduler.timesteps.clone()
    one, other = Schedule.plan(scheduler, 10), Schedule.plan(scheduler, 25)
    assert torch.equal(scheduler.timesteps, before) and scheduler.num_inference_steps is None
    assert (len(one.timesteps), len(other.timesteps)) == (10, 25)
