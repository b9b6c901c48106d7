"""Every scheduler of diffusers either walks to a finite latent or is refused by its name."""

import logging
from typing import Any

import diffusers
import pytest
import torch
from torch import Generator, Tensor

from versatile_diffusion.checkpoints.components import official_scheduler
from versatile_diffusion.sampling.sampler import Schedule, sample
from versatile_diffusion.sampling.schedulers import (
    PREDICTION_TYPES,
    SCHEDULERS,
    USABLE,
    check_scheduler,
    named_scheduler,
)

ALL = sorted(name for name in dir(diffusers) if name.endswith("Scheduler") and not name.startswith(("Flax", "Karras")))
NOISE = torch.randn(2, 4, 6, 6, generator=Generator().manual_seed(0))


def made(name: str, **options: object) -> Any:
    """A scheduler for the official noise schedule; None if that is nothing to build it of, or a library is missing."""
    cls = getattr(diffusers, name)
    try:
        return cls.from_config(official_scheduler().config, **options)
    except (ImportError, ValueError, TypeError):  # it is built otherwise
        return None


def walked(scheduler: Any) -> Tensor:
    drawn = [Generator().manual_seed(seed) for seed in range(len(NOISE))]
    return sample(lambda latents, _: 0.3 * latents.tanh(), NOISE, Schedule.plan(scheduler, 5), generators=drawn)


@pytest.mark.parametrize("name", ALL)
def test_every_scheduler_of_diffusers_works_or_is_named(name: str) -> None:
    scheduler = made(name)
    if scheduler is None:
        assert name not in USABLE
    elif name in USABLE:
        assert walked(scheduler).isfinite().all()
    else:
        with pytest.raises(ValueError, match=f"^{name} .*cannot be used here") as caught:
            check_scheduler(scheduler)
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("predicts", PREDICTION_TYPES)
@pytest.mark.parametrize("name", USABLE)
def test_every_prediction_works_or_is_named(name: str, predicts: str) -> None:
    scheduler = made(name, prediction_type=predicts)
    if predicts == "sample" and name.startswith(("EulerAncestral", "KDPM2", "PNDM")):
        with pytest.raises(ValueError, match=f"{name} knows no prediction_type sample: take DDIM"):
            check_scheduler(scheduler)
    else:
        assert walked(scheduler).isfinite().all()


@pytest.mark.parametrize("name", USABLE)
def test_zero_terminal_snr_is_no_nan(name: str, caplog: pytest.LogCaptureFixture) -> None:
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    with caplog.at_level(logging.ERROR):
        scheduler = made(name, prediction_type="v_prediction", **options)
        if scheduler.config.get("rescale_betas_zero_snr"):
            assert walked(scheduler).isfinite().all()
            with pytest.raises(ValueError, match=f"{name} ends at pure noise"):
                check_scheduler(made(name, **options))


def test_a_name_that_cannot_follow_the_models_schedule_is_refused() -> None:
    ddim = made("DDIMScheduler", prediction_type="v_prediction", rescale_betas_zero_snr=True)
    found: dict[str, bool] = {}
    for name in SCHEDULERS:
        try:
            found[name] = bool(named_scheduler(name, ddim).config["rescale_betas_zero_snr"])
        except ValueError as error:
            assert f"{name} knows no noise schedule that ends at pure noise" in str(error)
            found[name] = False
    assert [name for name, can in found.items() if can] == ["ddim", "dpm", "unipc", "euler", "lcm", "tcd"]


def test_a_class_in_the_place_of_a_scheduler_is_told_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"DDIMScheduler is a class.*DDIMScheduler\.from_config"):
        check_scheduler(diffusers.DDIMScheduler)  # pyright: ignore[reportPrivateImportUsage]
