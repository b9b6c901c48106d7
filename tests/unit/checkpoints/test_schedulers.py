"""A saved model gives the same outputs with every scheduler."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import Generator

from tests.unit.checkpoints import folders as made
from versatile_diffusion.checkpoints import Components, convert, load, save
from versatile_diffusion.checkpoints.components import official_scheduler
from versatile_diffusion.sampling.sampler import Schedule, sample
from versatile_diffusion.sampling.schedulers import SCHEDULERS, USABLE, named_scheduler

OFFICIAL = {
    "_class_name": "DDIMScheduler",
    "_diffusers_version": "0.7.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
"""The file of shi-labs/versatile-diffusion on the hub, which leaves out how time steps are spaced."""


@pytest.fixture(scope="module")
def model() -> Components:
    return made.random_model()


def steps(scheduler: Any) -> dict[str, list[float]]:
    """The time steps of every scheduler that is made of this one."""
    found: dict[str, list[float]] = {}
    for name in SCHEDULERS:
        other = named_scheduler(name, scheduler)
        other.set_timesteps(20)
        found[name] = other.timesteps.tolist()
    return found


def walks(scheduler: Any) -> dict[str, list[float]]:
    """Where every scheduler of diffusers that is made of this one arrives, with a denoiser that is always the same."""
    found: dict[str, list[float]] = {}
    for name in USABLE:
        other = getattr(diffusers, name).from_config(scheduler.config)
        drawn = [Generator().manual_seed(3)]
        walked = sample(lambda latents, _: 0.3 * latents, torch.ones(1, 3), Schedule.plan(other, 4), generators=drawn)
        found[name] = walked.flatten().tolist()
    return found


def test_every_scheduler_makes_the_same_of_a_model_that_was_saved_and_converted(
    model: Components, tmp_path: Path
) -> None:
    before = walks(model.scheduler)
    assert len(set(map(tuple, before.values()))) > 10  # they are told apart
    save(model, tmp_path / "saved")
    convert(str(tmp_path / "saved"), tmp_path / "converted")
    for folder in ("saved", "converted"):
        assert walks(load(tmp_path / folder).scheduler) == before


def test_schedulers_start_where_they_did_before_saving(model: Components, tmp_path: Path) -> None:
    before = steps(official_scheduler())
    assert (before["unipc"][0], before["ddim"][0]) == (999, 951)
    for folder in ("once", "twice"):
        save(model, tmp_path / folder)
        model = load(tmp_path / folder)
        assert steps(model.scheduler) == before


def test_the_official_file_means_the_same_after_saving(model: Components, tmp_path: Path) -> None:
    save(model, tmp_path / "model")
    file = tmp_path / "model" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(OFFICIAL))
    opened = load(tmp_path / "model")
    before = steps(opened.scheduler)
    assert before["unipc"][0] == 999
    save(opened, tmp_path / "again")
    assert steps(load(tmp_path / "again").scheduler) == before
    written = json.loads((tmp_path / "again" / "scheduler" / "scheduler_config.json").read_text())
    assert {"timestep_spacing", "prediction_type"}.isdisjoint(written)
    assert all(written[name] == value for name, value in OFFICIAL.items() if not name.startswith("_"))


@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_what_a_scheduler_was_given_is_saved(model: Components, tmp_path: Path, name: str) -> None:
    scheduler = type(named_scheduler(name, official_scheduler())).from_config(
        official_scheduler().config, timestep_spacing="trailing", prediction_type="v_prediction"
    )
    save(replace(model, scheduler=scheduler), tmp_path / "model")
    opened: Any = load(tmp_path / "model").scheduler
    assert type(opened) is type(scheduler)
    assert dict(opened.config, _use_default_values=None) == dict(scheduler.config, _use_default_values=None)
    assert torch.equal(opened.alphas_cumprod, scheduler.alphas_cumprod)
    assert steps(opened) == steps(scheduler)
