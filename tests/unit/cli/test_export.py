"""What `vd export` writes for the hub, run as the hub runs it."""

import base64
import io
import re
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from huggingface_hub import RepoCard
from PIL import Image
from typer.testing import CliRunner

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app

STEPS = {"num_inference_steps": 2}


def export(*words: object) -> str:
    result = CliRunner().invoke(app, ["export", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def imported(file: Path) -> ModuleType:
    """A file as a platform imports it: by its path, under whatever name."""
    spec = spec_from_file_location(f"somewhere_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def requirements(folder: Path) -> list[str]:
    return (folder / "requirements.txt").read_text().split()


def test_an_endpoint_answers(
    model: Path, pipe: VersatileDiffusionPipeline, tmp_path: Path, picture: Image.Image
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model, folder)
    export("endpoint", folder)
    export("endpoint", folder)  # again
    assert requirements(folder) == ["versatile-diffusion[serve]"]
    handler = imported(folder / "handler.py").EndpointHandler(path=str(folder), dtype="fp32")

    painted = handler({"inputs": "a red tent", "parameters": {"num_outputs": 2, "seed": 3, **STEPS}})
    assert [output["seed"] for output in painted] == [3, 4]
    shown = Image.open(io.BytesIO(base64.b64decode(painted[0]["image"])))
    own = pipe.text_to_image("a red tent", generator=torch.Generator().manual_seed(3), **STEPS).images[0]
    assert np.abs(np.asarray(shown, int) - np.asarray(own, int)).max() <= 2  # of rounding

    file = io.BytesIO()
    picture.save(file, "PNG")
    sent = {
        "inputs": base64.b64encode(file.getvalue()).decode(),
        "parameters": {"task": "image-to-text", "seed": 1, **STEPS},
    }
    told = pipe.image_to_text(picture, generator=torch.Generator().manual_seed(1), **STEPS).texts
    assert [output["text"] for output in handler(sent)] == told
    of_picture = handler({"inputs": picture, "parameters": {"seed": 1, **STEPS}})  # as the platform decodes bodies
    assert [output["text"] for output in of_picture] == told
    body = {"to": "text", "contexts": ["a red tent", {"modality": "image", "data": sent["inputs"]}], **STEPS}
    assert len(handler({"inputs": body})) == 1

    for wrong, message in (
        ({}, '"inputs" is missing'),
        ({"inputs": "a", "parameters": {"task": "text2image"}}, "is not a flow"),
        ({"inputs": "a", "parameters": {"num_inference_steps": 0}}, "num_inference_steps"),
        ({"inputs": "no picture", "parameters": {"task": "image-to-text"}}, "base64"),
    ):
        with pytest.raises(ValueError, match=message):
            handler(wrong)


@pytest.mark.slow
def test_a_space_shows_every_flow(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradio_client import Client, handle_file

    folder = tmp_path / "space"
    export("space", folder, "--model", "me/my-model", "--title", "Mine")
    card = RepoCard.load(folder / "README.md").data.to_dict()
    assert (card["title"], card["sdk"], card["app_file"]) == ("Mine", "gradio", "app.py")
    assert card["emoji"] and card["models"] == ["me/my-model"] and re.fullmatch(r"\d+\.\d+\.\d+", card["sdk_version"])
    assert len(card["short_description"]) <= 60 and requirements(folder) == ["versatile-diffusion[app]"]

    monkeypatch.setenv("MODEL", str(model))  # a variable of the Space
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    demo = imported(folder / "app.py").demo
    demo.launch(prevent_thread_lock=True, quiet=True)
    try:
        client = Client(demo.local_url, verbose=False, download_files=str(tmp_path))
        picture = tmp_path / "picture.png"
        Image.new("RGB", (16, 16), "red").save(picture)
        made = client.predict("a red tent", 2, 1, "fast", api_name="/text_to_image")
        assert len(made) == 2
        assert isinstance(client.predict(handle_file(str(picture)), 1, 1, "fast", api_name="/image_to_text"), str)
        with pytest.raises(Exception, match="Give a text to begin with"):
            client.predict("", 1, 1, "fast", api_name="/text_variation")
    finally:
        demo.close()


def test_what_is_somebody_elses_is_kept(model: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("print('mine')\n")
    result = CliRunner().invoke(app, ["export", "space", str(tmp_path)])
    assert result.exit_code == 1 and "somebody's own" in " ".join(result.output.split())
    result = CliRunner().invoke(app, ["export", "endpoint", str(tmp_path)])
    assert result.exit_code == 1 and "holds no model" in " ".join(result.output.split())
    assert (tmp_path / "app.py").read_text() == "print('mine')\n"
