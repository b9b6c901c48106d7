"""A modality that no file of the package knows is served, from a saved model, as images and texts are."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import torch

from tests.unit.modalities.tones import SAMPLES, TONE, TONES, known, small_tones
from tests.unit.serving.running import listening
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.workers import LocalWorker, Source, open_models
from versatile_diffusion.modalities import Modality
from versatile_diffusion.provenance.replay import replayed
from versatile_diffusion.provenance.stored_record import parse_record
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.limits import Limits

WAVE = base64.b64encode(TONE.codec.encode(TONES[0])).decode()
SEEN = {"modality": "tone", "data": WAVE, "weight": 0.4}
TENT = {"modality": "text", "data": "a red tent", "weight": 0.6}
ASKED: dict[str, Any] = {"to": "tone", "contexts": [SEEN, TENT], "num_inference_steps": 4, "seed": 3, "wait": True}


@pytest.fixture(scope="module")
def pipe(session_pipe: VersatileDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A model of tones and texts, opened from where it was saved."""
    with known():
        modalities: dict[str, Modality] = {"tone": small_tones(), "text": session_pipe.modality("text")}
        data_layers = {name: modality.data_layers for name, modality in modalities.items()}
        context_dims = {name: modality.context_dim for name, modality in modalities.items()}
        torch.manual_seed(0)
        config = DiffuserConfig(64, (1,), (1,), (True,), num_heads=4)
        diffuser = Diffuser(config, data_layers, context_dims).eval()
        folder = tmp_path_factory.mktemp("models") / "tones"
        VersatileDiffusionPipeline(diffuser, session_pipe.scheduler, modalities).save_pretrained(folder)
        yield open_models([Source.parse(str(folder))], "cpu", "fp32")["tones"]


@pytest.fixture(scope="module")
def client(pipe: VersatileDiffusionPipeline) -> Iterator[httpx.Client]:
    app = build_app(Engine(LocalWorker({"tones": pipe})), limits=Limits(input_pixels=2 * SAMPLES))
    with listening(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def heard(output: dict[str, Any]) -> torch.Tensor:
    tone = TONE.codec.decode(base64.b64decode(output["data"]))
    assert isinstance(tone, torch.Tensor)
    return tone


def test_it_is_made_and_its_record_makes_it_again(client: httpx.Client, pipe: VersatileDiffusionPipeline) -> None:
    asked = ASKED | {"num_outputs": 2, "start": WAVE, "strength": 0.5, "volume": 0.5}
    response = client.post("/v1/generate", json=asked)
    assert response.status_code == 200, response.text
    job = response.json()
    contexts = [Context("tone", heard({"data": WAVE}), weight=0.4), Context("text", "a red tent", weight=0.6)]
    seeds = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    options: dict[str, Any] = {"start": heard({"data": WAVE}), "strength": 0.5, "volume": 0.5, "generator": seeds}
    made = pipe.generate("tone", contexts, num_outputs=2, num_inference_steps=4, **options)
    for output, tone in zip(job["outputs"], made.items, strict=True):
        assert output["media_type"] == "audio/wav" and output["image"] is None and output["text"] is None
        torch.testing.assert_close(heard(output), tone, atol=1e-3, rtol=0)
        again = replayed(pipe, parse_record(json.dumps(output["request"])))
        torch.testing.assert_close(again, tone, atol=1e-4, rtol=0)


def test_it_is_sent_as_a_file_and_turned_into_words(client: httpx.Client) -> None:
    asked = ASKED | {"to": "text", "contexts": [{"modality": "tone", "data": {"file": "hum"}}]}
    files = {"hum": TONE.codec.encode(TONES[1])}
    job = client.post("/v1/generate", data={"request": json.dumps(asked)}, files=files).json()
    assert isinstance(job["outputs"][0]["text"], str) and job["outputs"][0]["media_type"] == "text/plain"


def test_previews_are_its_own(client: httpx.Client) -> None:
    place = client.post("/v1/generate", json=ASKED | {"wait": False, "preview_every": 1}).headers["location"]
    with client.stream("GET", f"{place}/events") as stream:
        shown = [json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data: ")]
    previews = [job for job in shown if job["preview"] is not None]
    assert previews and {job["preview_media_type"] for job in previews} == {"audio/wav"}
    assert heard({"data": previews[-1]["preview"]}).shape == (SAMPLES,)


def test_what_is_wrong_is_told(client: httpx.Client) -> None:
    def told(**changes: Any) -> str:
        response = client.post("/v1/generate", json=ASKED | changes)
        assert response.status_code == 422, response.text
        return response.json()["error"]["message"]

    assert "tones makes tone and text, not image." in told(to="image")
    assert "volume" in told(volume=2)
    assert "take temperature, max_tokens, top_k, top_p" in told(to="text", volume=0.5)
    assert "whole .wav file" in told(contexts=[SEEN | {"data": base64.b64encode(b"RIFF").decode()}])
    assert "may have 0 samples" in told(contexts=[SEEN] * 3)


def test_the_document_tells_of_it(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()["components"]["schemas"]["GenerateIn"]
    assert schema["properties"]["volume"] | {"title": ""} == {
        **{"default": 1.0, "description": "How loud they are.", "maximum": 1, "minimum": 0, "title": ""},
        "type": "number",
    }
    assert {"temperature", "top_k", "colors_of", "guidance_scale"} <= schema["properties"].keys()
    (model,) = client.get("/v1/models").json()["data"]
    assert sorted(model["outputs"]) == sorted(model["contexts"]) == ["text", "tone"]
