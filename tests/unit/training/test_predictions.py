"""What the diffuser learns to predict is what sampling reads: the noise, the velocity or the clean latent."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from torch import Generator, Tensor

from tests.unit.training.diffuser_runs import four_flow_task
from versatile_diffusion.checkpoints.components import official_scheduler
from versatile_diffusion.flows import Flow
from versatile_diffusion.sampling.sampler import Schedule, sample
from versatile_diffusion.sampling.schedulers import PREDICTION_TYPES
from versatile_diffusion.training.settings.config import differences, parse_settings, with_settings
from versatile_diffusion.training.stages.preparation import learnt_schedule
from versatile_diffusion.training.tasks.diffuser import DiffuserTask
from versatile_diffusion.worlds.postcards.recipe import tiny_recipe

FLOW = Flow("text", "image")
WAYS = [*((predicts, False) for predicts in PREDICTION_TYPES), ("v_prediction", True), ("sample", True)]
CLEAN = torch.randn(1, 4, 4, 4, generator=Generator().manual_seed(2))
CLEAN /= CLEAN.abs().max()


def schedule(predicts: str, zero_snr: bool = False) -> DDIMScheduler:
    """The official one for that prediction; where it ends at pure noise, sampling starts there."""
    spacing = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"} if zero_snr else {}
    made: Any = DDIMScheduler.from_config(official_scheduler().config, prediction_type=predicts, **spacing)  # pyright: ignore
    return made


class Knowing:
    """A diffuser that knows that all latents are one, but for an error in it."""

    def __init__(self, scheduler: DDIMScheduler, error: float = 0.0) -> None:
        self.scheduler, self.clean = scheduler, CLEAN + error

    def __call__(self, noisy: Tensor, timesteps: Tensor, *_: object) -> Tensor:
        alphas = self.scheduler.alphas_cumprod[timesteps][:, None, None, None]
        noise = (noisy - alphas.sqrt() * self.clean) / (1 - alphas).sqrt()
        match self.scheduler.config["prediction_type"]:
            case "epsilon":
                return noise
            case "v_prediction":
                return alphas.sqrt() * noise - (1 - alphas).sqrt() * self.clean
            case _:
                return self.clean.expand_as(noisy)


def loss(scheduler: DDIMScheduler, min_snr: float | None, error: float, timestep: int) -> float:
    task: Any = four_flow_task([FLOW], min_snr=min_snr)
    task = DiffuserTask(task.model, [FLOW], task.data, scheduler, min_snr=min_snr)
    batch = dict(task.draw(Generator().manual_seed(0), 6))
    batch[f"{FLOW}/latents"] = CLEAN.expand(6, -1, -1, -1)
    batch[f"{FLOW}/timesteps"] = torch.full((6,), timestep)
    task.model = Knowing(scheduler, error)
    (compute,) = task.passes(batch)
    return compute()[str(FLOW)].item()


@pytest.mark.parametrize(("predicts", "zero_snr"), WAYS)
@pytest.mark.parametrize("min_snr", [None, 5.0])
def test_whoever_knows_the_latents_has_nothing_to_learn(predicts: str, zero_snr: bool, min_snr: float | None) -> None:
    scheduler = schedule(predicts, zero_snr)
    for timestep in (0, 1, 500, 998, 999):
        assert loss(scheduler, min_snr, 0.0, timestep) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("predicts", "zero_snr"), WAYS)
def test_weights_are_those_of_the_error_in_the_clean_latent(predicts: str, zero_snr: bool) -> None:
    scheduler = schedule(predicts, zero_snr)
    for timestep in (0, 300, 700, 999):
        alpha = float(scheduler.alphas_cumprod[timestep])
        expected = 0.1**2 * min(alpha / (1 - alpha), 5.0)
        assert loss(scheduler, 5.0, 0.1, timestep) == pytest.approx(expected, rel=1e-2, abs=1e-9)


@pytest.mark.parametrize(("predicts", "zero_snr"), WAYS)
def test_sampling_reads_what_was_learnt(predicts: str, zero_snr: bool) -> None:
    scheduler = schedule(predicts, zero_snr)
    knowing = Knowing(scheduler)
    noise = torch.randn(2, 4, 4, 4, generator=Generator().manual_seed(1))
    planned = Schedule.plan(scheduler, 10)
    made = sample(lambda latents, at: knowing(latents, at.expand(len(latents))), noise, planned)
    assert planned.timesteps[0] == (999 if zero_snr else 901)
    assert (made - CLEAN).abs().max() < 0.12  # the least noise of training is left


def test_noise_cannot_be_learnt_where_a_schedule_ends_at_noise() -> None:
    task: Any = four_flow_task([FLOW])
    ending = [*official_scheduler().betas.tolist()[:-1], 1.0]
    for scheduler in (schedule("epsilon", zero_snr=True), DDIMScheduler(trained_betas=ending)):
        with pytest.raises(ValueError, match=r"DDIMScheduler ends at pure noise.*v_prediction"):
            DiffuserTask(task.model, [FLOW], task.data, scheduler)


def test_a_recipe_says_what_is_predicted_and_a_model_to_go_on_from_says_it_else() -> None:
    recipe = with_settings(tiny_recipe(), parse_settings(["prediction_type=v_prediction"]))
    assert recipe.prediction_type == "v_prediction" and tiny_recipe().prediction_type is None
    assert list(differences(recipe, tiny_recipe())) == ["prediction_type=v_prediction"]
    with pytest.raises(ValueError, match="prediction_type: input should be 'epsilon', 'v_prediction' or 'sample'"):
        with_settings(tiny_recipe(), ["prediction_type=noise"])
    given = schedule("sample")
    assert learnt_schedule(given, None).config["prediction_type"] == "sample"
    assert learnt_schedule(given, "epsilon").config["prediction_type"] == "epsilon"
    other: Any = PNDMScheduler.from_config(official_scheduler().config, prediction_type="v_prediction")
    assert torch.equal(learnt_schedule(other, None).alphas_cumprod, official_scheduler().alphas_cumprod)
    assert replace(recipe, prediction_type="sample").prediction_type == "sample"
