"""Options of diffusers' `from_pretrained` mean the same here, or are refused by name."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.checkpoints.weight_files import FileOptions
from versatile_diffusion.pipeline.opening import OpeningOptions, as_dtype

Pipe = VersatileDiffusionPipeline


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({"torch_dtype": "float16"}, torch.float16),
        ({"torch_dtype": "torch.bfloat16"}, torch.bfloat16),
        ({"dtype": torch.float16}, torch.float16),
        ({"dtype": "bf16"}, torch.bfloat16),
        ({"torch_dtype": "auto"}, torch.float32),
        ({}, torch.float32),
    ],
)
def test_dtypes_have_names(model: Path, options: dict[str, Any], dtype: torch.dtype):
    pipe = Pipe.from_pretrained(model, flows=["image-variation"], **options)
    assert {parameter.dtype for parameter in pipe.diffuser.parameters()} == {dtype}


@pytest.mark.parametrize("value", ["int8", "float8", 16, torch.int64, {"unet": torch.float16}])
def test_what_is_no_dtype_is_refused(value: object):
    with pytest.raises(ValueError, match=r"torch_dtype must be one such as torch\.float16"):
        as_dtype(value)


def test_options_that_people_pass_are_taken(model: Path):
    scheduler = UniPCMultistepScheduler()
    pipe = Pipe.from_pretrained(
        str(model),
        flows=["text-to-image"],
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        low_cpu_mem_usage=True,
        local_files_only=True,
        use_safetensors=True,
        cache_dir=None,
        revision=None,
        token=None,
        device_map="cpu",
        scheduler=scheduler,
    )
    assert pipe.scheduler is scheduler
    assert pipe.device.type == "cpu"


def test_options_of_downloads_reach_the_hub():
    given = {
        "use_auth_token": "a",
        "revision": "main",
        "cache_dir": Path("/x"),
        "local_files_only": True,
        "variant": "fp16",
    }
    expected = FileOptions("fp16", revision="main", cache_dir=Path("/x"), token="a", local_files_only=True)
    assert OpeningOptions.of(given).files == expected
    assert OpeningOptions.of({"force_download": False, "trust_remote_code": True}).files == FileOptions()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"safety_checker": object()}, ValueError, "does not take safety_checker here. There is no safety checker"),
        ({"vae": object()}, ValueError, r"does not take vae here.*pipe\.modalities"),
        ({"custom_pipeline": "lpw"}, ValueError, "custom_pipeline"),
        ({"quantization_config": object()}, ValueError, r"pipe\.quantize"),
        ({"device_map": "balanced"}, ValueError, "name one device"),
        ({"device_map": "abacus"}, ValueError, "'abacus' is not a device"),
        ({"device_map": {"unet": 0}}, ValueError, "device_map"),
        ({"variant": 16}, ValueError, "variant"),
        ({"use_safetensors": "perhaps"}, ValueError, "use_safetensors must be true or false"),
        ({"scheduler": "ddim"}, ValueError, "scheduler"),
        ({"torch_type": torch.float16}, TypeError, r"no option torch_type, only torch_dtype, flows"),
        ({"variant": "fp16"}, ValueError, "no weights of the variant 'fp16'"),
        ({"use_safetensors": False}, ValueError, "use_safetensors=False"),
    ],
)
def test_what_is_not_done_here_is_refused_by_name(
    model: Path, options: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error, match=message) as raised:
        Pipe.from_pretrained(model, **options)
    assert len(str(raised.value)) < 600
