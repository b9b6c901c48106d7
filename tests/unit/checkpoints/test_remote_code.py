"""`DiffusionPipeline.from_pretrained(…, trust_remote_code=True)` opens what we save."""

import json
import shutil
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from huggingface_hub.utils import filter_repo_objects

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.checkpoints.folder import is_ours, saved_parts

STEPS = {"num_inference_steps": 2, "output_type": "np"}


@pytest.fixture(autouse=True)
def _modules_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))


def images(pipe: VersatileDiffusionPipeline) -> torch.Tensor:
    seed = torch.Generator().manual_seed(1)
    return torch.as_tensor(pipe.text_to_image("a red tent", generator=seed, **STEPS).images)


def test_diffusers_opens_a_saved_folder(model: Path, pipe: VersatileDiffusionPipeline) -> None:
    opened = DiffusionPipeline.from_pretrained(model, trust_remote_code=True)
    assert type(opened) is VersatileDiffusionPipeline
    assert torch.equal(images(opened), images(pipe))

    unipc = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    options = {"scheduler": unipc, "dtype": torch.bfloat16, "flows": ["text-to-image"]}
    part = DiffusionPipeline.from_pretrained(model, trust_remote_code=True, **options)
    assert type(part) is VersatileDiffusionPipeline
    assert part.scheduler is unipc and part.diffuser.dtype == torch.bfloat16
    assert list(part.diffuser.data_layers) == ["image"]


def test_code_is_run_only_where_it_is_trusted(model: Path) -> None:
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        DiffusionPipeline.from_pretrained(model)


def test_all_of_a_model_is_downloaded_from_the_hub(
    model: Path, pipe: VersatileDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the hub as far as diffusers asks it: its list of files, one file, and those that match patterns."""
    files = [path.relative_to(model).as_posix() for path in model.rglob("*") if path.is_file()]
    cache = tmp_path / "cache"

    def fetched(names: Sequence[str]) -> None:
        for name in names:
            (cache / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(model / name, cache / name)

    def one(repo: str, filename: str, **options: object) -> str:
        fetched([filename])
        return str(cache / filename)

    def several(repo: str, *, allow_patterns: list[str], ignore_patterns: list[str], **options: object) -> str:
        fetched(list(filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)))
        return str(cache)

    info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in files], sha="0" * 40)
    for module in ("diffusers.pipelines.pipeline_utils", "diffusers.utils.dynamic_modules_utils"):
        monkeypatch.setattr(f"{module}.model_info", lambda *args, **options: info)
        monkeypatch.setattr(f"{module}.hf_hub_download", one)
    monkeypatch.setattr("diffusers.pipelines.pipeline_utils.snapshot_download", several)
    opened = DiffusionPipeline.from_pretrained("somebody/model", trust_remote_code=True)
    assert type(opened) is VersatileDiffusionPipeline
    assert torch.equal(images(opened), images(pipe))
    assert [name for name in files if not (cache / name).exists() and not fnmatch(name, "*.md")] == []


def test_folders_of_before_are_read_and_replaced(model: Path, pipe: VersatileDiffusionPipeline, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    (folder / "pipeline.py").unlink()
    index = {"_class_name": "VersatileDiffusionPipeline", "format": 1, "modalities": ["image", "text"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    assert is_ours(folder) and set(saved_parts(folder)) == set(saved_parts(model))
    assert torch.equal(images(VersatileDiffusionPipeline.from_pretrained(folder)), images(pipe))
    pipe.save_pretrained(folder)
    assert (folder / "pipeline.py").is_file()


def test_another_pipeline_on_the_same_model(pipe: VersatileDiffusionPipeline) -> None:
    unipc = UniPCMultistepScheduler.from_config(pipe.scheduler.config)
    other = VersatileDiffusionPipeline.from_pipe(pipe, scheduler=unipc)
    assert other.diffuser is pipe.diffuser and other.modality("image") is pipe.modality("image")
    assert other.scheduler is unipc and pipe.scheduler is not unipc
    assert torch.equal(images(VersatileDiffusionPipeline.from_pipe(pipe)), images(pipe))
    with pytest.raises(TypeError, match="open the model with from_pretrained"):
        VersatileDiffusionPipeline.from_pipe(DiffusionPipeline())
