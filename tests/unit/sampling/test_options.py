"""The options of sampling are said once."""

from typing import Any

import numpy as np
import pytest

from versatile_diffusion.sampling.options import Sampling, SchedulerName
from versatile_diffusion.sampling.schedulers import SCHEDULERS
from versatile_diffusion.validation import checked


def test_every_option_says_what_it_does() -> None:
    assert all(field.description for field in Sampling.model_fields.values())


def test_names_of_schedulers_are_the_same_everywhere() -> None:
    assert [*SchedulerName] == [*SCHEDULERS]


def test_numbers_of_numpy_are_numbers() -> None:
    sampling = checked(Sampling, {"num_inference_steps": np.int64(20), "guidance_scale": np.float32(2.5)})
    assert (sampling.num_inference_steps, sampling.guidance_scale) == (20, 2.5)
    assert checked(Sampling, {"num_inference_steps": 20.0}).num_inference_steps == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"num_inference_steps": 0},
            r"^num_inference_steps must be 1 or more, got 0\. Steps of the whole schedule: 50",
        ),
        ({"num_inference_steps": 1001}, "num_inference_steps must be 1000 or less, got 1001"),
        ({"num_inference_steps": 2.5}, "num_inference_steps must be a whole number, got 2.5"),
        ({"num_inference_steps": "many"}, "num_inference_steps must be a whole number, got 'many'"),
        ({"strength": 1.1}, "strength must lie between 0 and 1, got 1.1"),
        ({"eta": float("nan")}, "eta must lie between 0 and 1, got nan"),
        ({"guidance_rescale": -0.1}, "guidance_rescale must lie between 0 and 1, got -0.1"),
        ({"guidance_scale": float("inf")}, "guidance_scale must be a finite number, got inf"),
        ({"guidance_scale": "much"}, "guidance_scale must be a number, got 'much'"),
        ({"guidance_interval": (0.8, 0.2)}, r"guidance_interval must be \(low, high\) with 0 <= low < high <= 1"),
        ({"scheduler": "ddpm"}, "A scheduler is one of ddim, dpm, .* got 'ddpm'"),
        ({"height": 0}, "height must be 1 or more, got 0"),
        ({"stepps": 3}, "There is no stepps here, only preset, num_inference_steps, guidance_scale"),
    ],
)
def test_what_is_not_usable_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked(Sampling, options)
