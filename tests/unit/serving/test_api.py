"""The HTTP interface: what comes back, and what is refused."""

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from socket import create_connection
from threading import Barrier
from typing import Any
from zlib import crc32

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from prometheus_client import generate_latest
from safetensors.torch import save

from tests.unit.serving.running import Gate, ask_and_leave, encoded, listening
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.workers import LocalWorker, ModelInfo
from versatile_diffusion.modalities.size_range import SizeRange
from versatile_diffusion.provenance.replay import replayed
from versatile_diffusion.provenance.stored_record import parse_record
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.keys import Keys
from versatile_diffusion.serving.limits import Limits
from versatile_diffusion.serving.metrics import Metrics

TENT: dict[str, Any] = {"modality": "text", "data": "a red tent in the meadow"}
ASKED: dict[str, Any] = {"to": "image", "contexts": [TENT], "num_inference_steps": 2, "seed": 3, "wait": True}


@pytest.fixture(scope="module")
def client(session_pipe: VersatileDiffusionPipeline) -> Iterator[httpx.Client]:
    """A client of a real server of the tiny model."""
    metrics = Metrics()
    engine = Engine(LocalWorker({"tiny": session_pipe}), observer=metrics)
    app = build_app(engine, metrics=metrics)
    with listening(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def opened(output: dict[str, Any]) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(output["image"])))


def bomb(side: int) -> bytes:
    """A small file that says it is a large picture."""
    content = bytearray(encoded(Image.new("L", (8, 8))))
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def same(image: Image.Image, other: Image.Image) -> bool:
    return image.size == other.size and bool(np.abs(np.array(image, int) - np.array(other, int)).max() <= 1)


def refused(response: httpx.Response, status: int = 422) -> str:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["type"]
    return error["message"]


def test_it_makes_what_the_pipeline_makes(client: httpx.Client, pipe: VersatileDiffusionPipeline) -> None:
    response = client.post("/v1/generate", json=ASKED | {"num_outputs": 2})
    assert response.status_code == 200, response.text
    job = response.json()
    seeds = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    expected = pipe.text_to_image(TENT["data"], num_outputs=2, num_inference_steps=2, generator=seeds).images
    assert job["status"] == "succeeded" and [output["seed"] for output in job["outputs"]] == [3, 4]
    assert all(same(opened(output), image) for output, image in zip(job["outputs"], expected, strict=True))


def test_pictures_hold_their_recipe_and_nothing_of_what_was_sent(client: httpx.Client, picture: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    sent = {"modality": "image", "data": text(encoded(picture, exif=exif)), "weight": 0.5}
    made = opened(client.post("/v1/generate", json=ASKED | {"contexts": [TENT, sent]}).json()["outputs"][0])
    recipe = dict[Any, Any](made.info)
    assert recipe["seed"] == "3" and recipe["model"] == "tiny" and recipe["guidance_scale"] == "7.5"
    words, seen = json.loads(recipe["contexts"])
    assert words == {"text": TENT["data"], "weight": 1.0} and seen["image"].startswith("40×30, sha256 ")
    assert not made.getexif() and "camera" not in str(recipe)


def test_every_kind_of_conditioning_passes(
    client: httpx.Client, pipe: VersatileDiffusionPipeline, picture: Image.Image
) -> None:
    tokens = pipe.encode_context("text", "a blue house")
    rounded = tokens.bfloat16()
    mask = Image.new("L", picture.size, "white")
    contexts = [
        {"modality": "image", "data": {"file": "photo"}, "mask": {"file": "mask"}, "focus": 0.2, "weight": 0.4},
        {"modality": "text", "embedding": {"file": "tokens"}, "unconditional": tokens[0].tolist()},
    ]
    asked = ASKED | {"contexts": contexts, "negative": [TENT], "start": {"file": "photo"}, "strength": 0.5}
    asked |= {"height": 32, "width": 64, "eta": 0.3, "scheduler": "ddim", "guidance_interval": [0.1, 0.9]}
    asked |= {"guidance_scale": 3, "colors_of": {"file": "photo"}}
    files = {
        "photo": encoded(picture, "JPEG", quality=100, subsampling=0),
        "mask": encoded(mask),
        "tokens": save({"t": rounded}),
    }
    response = client.post("/v1/generate", data={"request": json.dumps(asked)}, files=files)
    assert response.status_code == 200, response.text
    photo = Image.open(BytesIO(files["photo"]))
    expected = pipe.generate(
        "image",
        [
            Context("image", photo, mask=mask, focus=0.2, weight=0.4),
            Context("text", embedding=rounded.float(), unconditional=tokens),
        ],
        negative=Context("text", TENT["data"]),
        start=photo,
        strength=0.5,
        height=32,
        width=64,
        eta=0.3,
        guidance_interval=(0.1, 0.9),
        guidance_scale=3,
        colors_of=photo,
        num_inference_steps=2,
        generator=torch.Generator().manual_seed(3),
    )
    assert same(opened(response.json()["outputs"][0]), expected.images[0])


def test_texts_and_their_options(client: httpx.Client) -> None:
    asked = ASKED | {"to": "text", "temperature": 0, "max_tokens": 5, "contexts": [TENT | {"data": "a zebra"}]}
    job = client.post("/v1/generate", json=asked).json()
    assert isinstance(job["outputs"][0]["text"], str) and "zebra" in job["notes"][0]
    assert "no height" in refused(client.post("/v1/generate", json=asked | {"height": 64}))


def test_a_job_can_be_looked_at_until_it_is_done(client: httpx.Client) -> None:
    response = client.post("/v1/generate", json=ASKED | {"wait": False, "num_inference_steps": 5, "preview_every": 2})
    assert response.status_code == 202
    place = response.headers["location"]
    with client.stream("GET", f"{place}/events") as stream:
        lines = list(stream.iter_lines())
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    shown = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert names[-1] == "succeeded" and [job["status"] for job in shown] == names
    assert [job["step"] for job in shown] == sorted(job["step"] for job in shown)
    assert opened(shown[-1]["outputs"][0]).size == (32, 32)
    assert client.get(place).json() == shown[-1] == client.delete(place).json()
    assert "no such job" in refused(client.get("/v1/jobs/0123/events"), 404)


def test_what_is_not_a_picture_is_refused(client: httpx.Client, tmp_path: Any, picture: Image.Image) -> None:
    file = tmp_path / "secret.png"
    picture.save(file)
    broken = encoded(picture)[: len(encoded(picture)) // 2]
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    for data in (str(file), f"file://{file}", "http://127.0.0.1/a.png", "data:image/png;base64,!", "../../etc/passwd"):
        for asked in ({"contexts": [{"modality": "image", "data": data}]}, {"start": data}, {"colors_of": data}):
            assert "base64" in refused(client.post("/v1/generate", json=ASKED | asked))
    bombs = [(bomb(5000), "too large"), (bomb(60000), "too large")]
    for content, message in (*bombs, (broken, "whole"), (svg, "PNG"), (b"", "PNG"), (b"GIF89a", "PNG")):
        asked = ASKED | {"contexts": [{"modality": "image", "data": {"file": "a"}}]}
        sent = client.post("/v1/generate", data={"request": json.dumps(asked)}, files={"a": content})
        assert message in refused(sent)
    assert "no file 'b'" in refused(client.post("/v1/generate", json=ASKED | {"start": {"file": "b"}}))
    assert "not as a file" in refused(
        client.post("/v1/generate", json=ASKED | {"contexts": [TENT | {"data": {"file": "b"}}]})
    )


def test_messages_fit_on_a_screen_whatever_was_sent(client: httpx.Client) -> None:
    long = "data:image/png;base64," + "x" * 100_000
    for changes in (
        *({name: long} for name in ("to", "model", "scheduler", "start", "guidance_interval", "seed")),
        {long: 1},
        {"contexts": [{"modality": long, "data": "a"}]},
        {"contexts": [{"modality": "image", "data": long}]},
        {"contexts": [TENT | {"unconditional": long}]},
        {"contexts": [TENT | {long: long}]},
        {"colors_of": {"file": long}},
    ):
        response = client.post("/v1/generate", json=ASKED | changes)
        assert response.status_code in (404, 422) and 10 < len(response.json()["error"]["message"]) < 1100


def test_noise_to_start_from(client: httpx.Client, pipe: VersatileDiffusionPipeline) -> None:
    shape = pipe.modality("image").latent_shape()
    noise = torch.randn(2, *shape, generator=torch.Generator().manual_seed(5))
    asked = ASKED | {"num_outputs": 2, "latents": text(save({"noise": noise}))}
    made = [opened(output) for output in client.post("/v1/generate", json=asked).json()["outputs"]]
    expected = pipe.text_to_image(TENT["data"], num_outputs=2, num_inference_steps=2, latents=noise).images
    assert all(same(one, other) for one, other in zip(made, expected, strict=True))
    for image in made:
        record = parse_record(image.info["request"])
        assert np.abs(np.asarray(replayed(pipe, record), int) - np.asarray(image, int)).max() <= 1


def test_wrong_requests_are_told_what_is_wrong(client: httpx.Client) -> None:
    def ask(**changes: Any) -> str:
        return refused(client.post("/v1/generate", json=ASKED | changes))

    assert "num_outputs" in ask(num_outputs=0)
    assert "steps" in ask(num_inference_steps=1e9)
    assert "no field path, only" in ask(path="/etc/passwd")
    assert "contexts must hold 1 at least" in ask(contexts=[])
    assert "data or an embedding" in ask(contexts=[{"modality": "text"}])
    assert "no masks" in ask(contexts=[TENT | {"mask": text(encoded(Image.new("L", (8, 8), "white")))}])
    assert "must have shape" in ask(contexts=[{"modality": "text", "embedding": [[1.0, 2.0]]}])
    assert "array of numbers" in ask(contexts=[{"modality": "text", "embedding": [[1.0], [1.0, 2.0]]}])
    assert "rectangle" in ask(contexts=[{"modality": "text", "embedding": text(b"12345678")}])
    half = text(save({"tokens": torch.full((1, 2, 24), torch.nan, dtype=torch.bfloat16)}))
    assert "NaN or infinite" in ask(contexts=[{"modality": "text", "embedding": half}])
    assert "Nothing to condition on" in ask(contexts=[TENT | {"weight": 0}])
    assert "tiny makes image and text, not sound." in ask(to="sound")
    assert "tiny takes contexts of image and text, not sound." in ask(contexts=[TENT | {"modality": "sound"}])
    assert "outputs of modality 'image' take colors_of" in ask(temperature=0.5)
    assert "no previews" in ask(to="text", preview_every=2)
    assert "low < high" in ask(guidance_interval=[0.9, 0.1])
    assert "Nothing to change" in ask(edit={"prompt": " "})
    assert "latents must have shape" in ask(latents=[[0.5, 1.5]])
    assert "no model '../secret'" in refused(client.post("/v1/generate", json=ASKED | {"model": "../secret"}), 404)
    assert "JSON" in refused(client.post("/v1/generate", content=b"{", headers={"content-type": "application/json"}))
    assert "multipart" in refused(client.post("/v1/generate", content=b"{}"), 415)
    assert "Not Found" in refused(client.get("/v1/nothing"), 404)


@pytest.mark.parametrize(
    ("changes", "limit"),
    [
        ({"num_outputs": 9}, "8 outputs"),
        ({"num_inference_steps": 251}, "250 steps"),
        ({"height": 2048, "width": 1024}, "4096 pixels"),
        ({"height": 65536}, "4096 pixels"),
        ({"height": 2, "width": 2048}, "256 pixels"),
        ({"contexts": [TENT] * 5, "negative": [TENT] * 4}, "8 contexts"),
        ({"contexts": [TENT | {"data": "a" * 2001}]}, "2000 characters"),
    ],
)
def test_requests_are_limited(client: httpx.Client, changes: dict[str, Any], limit: str) -> None:
    assert limit in refused(client.post("/v1/generate", json=ASKED | changes))


def test_a_side_that_is_left_out_is_the_models_own() -> None:
    limits, model = Limits(pixels=64 * 64), ModelInfo(("image", "text"), ("text",), {}, {"image": SizeRange.of(64)})

    def asked(to: Any = "image", **sides: Any) -> JobRequest:
        return JobRequest.of("tiny", to, [Context("text", "a tent")], [1], **sides)

    limits.check(asked(), model)
    for side in ("height", "width"):
        limits.check(asked(**{side: 32}), model)
        with pytest.raises(ValueError, match="4096 pixels at most, got 8192"):
            limits.check(asked(**{side: 128}), model)
    Limits(pixels=1).check(asked("text"), model)


def test_metrics_health_and_models(client: httpx.Client) -> None:
    client.post("/v1/generate", json=ASKED)
    client.get("/v1/jobs/unknown-1")
    client.get("/unknown-2")
    counted = client.get("/metrics").text
    assert 'vd_jobs_total{model="tiny",status="succeeded",to="image"}' in counted
    assert 'vd_http_requests_total{method="POST",route="/v1/generate",status="200"}' in counted
    assert "vd_jobs_waiting 0.0" in counted and "process_resident_memory_bytes" in counted
    assert "unknown-" not in counted
    assert client.get("/healthz").json() == {"status": "ok", "waiting": 0}
    (model,) = client.get("/v1/models").json()["data"]
    assert model["id"] == "tiny" and model["outputs"] == ["image", "text"]


# ---- a worker that waits ----


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.go.set()


def engine_of(gate: Gate, **limits: Any) -> Engine:
    return Engine(gate, EngineLimits(**limits))


def test_a_full_queue_says_when_to_come_again(gate: Gate) -> None:
    with listening(build_app(engine_of(gate, queue=1))) as address, httpx.Client(base_url=address) as client:
        first = client.post("/v1/generate", json=ASKED | {"wait": False}).json()
        assert gate.running.wait(30)
        waiting = client.post("/v1/generate", json=ASKED | {"wait": False}).json()
        assert waiting["queue_position"] == 1
        response = client.post("/v1/generate", json=ASKED)
        assert "waiting already" in refused(response, 429) and int(response.headers["retry-after"]) >= 1
        assert client.post(f"/v1/jobs/{waiting['id']}/cancel").json()["status"] == "cancelled"
        assert client.delete(f"/v1/jobs/{first['id']}").json()["status"] == "cancelled"
        gate.go.set()
        assert client.post("/v1/generate", json=ASKED).json()["status"] == "succeeded"


def test_a_client_that_goes_does_no_harm(gate: Gate) -> None:
    engine = engine_of(gate)
    with listening(build_app(engine)) as address, httpx.Client(base_url=address) as client:
        job = client.post("/v1/generate", json=ASKED | {"wait": False}).json()
        with client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
            next(stream.iter_lines())
        assert gate.running.wait(30)
        (left,) = ask_and_leave(address, ASKED | {"to": "text"}, engine)
        with left.heard(lambda: None):
            while not left.state.is_final:
                client.get("/healthz")
        assert left.state.status == "cancelled"
        gate.go.set()
        with client.stream("GET", f"/v1/jobs/{job['id']}/events") as stream:
            assert list(stream.iter_lines())
        assert client.get(f"/v1/jobs/{job['id']}").json()["status"] == "succeeded"


def test_a_job_that_crashes_or_takes_too_long_leaves_the_server_alive(gate: Gate) -> None:
    with listening(build_app(engine_of(gate, timeout=1))) as address, httpx.Client(base_url=address) as client:
        assert "longer than 1 s" in refused(client.post("/v1/generate", json=ASKED), 504)
        gate.go.set()
        message = refused(client.post("/v1/generate", json=ASKED | {"seed": 13}), 500)
        assert "RuntimeError" in message and "secret" not in message
        assert client.post("/v1/generate", json=ASKED).json()["status"] == "succeeded"


def test_keys(gate: Gate) -> None:
    gate.go.set()
    mine, yours = "k" * 16, "y" * 16
    app = build_app(engine_of(gate), keys=Keys([mine, yours]), limits=Limits(rate=6))
    with listening(app) as address, httpx.Client(base_url=address) as client:
        for path in ("/v1/models", "/metrics", "/v1/jobs/1", "/nothing"):
            assert "Send a key" in refused(client.get(path), 401)
        for wrong in (f"Bearer {mine}x", f"Basic {mine}", "Bearer", mine, "Bearer é"):
            assert refused(client.post("/v1/generate", json=ASKED, headers={b"Authorization": wrong.encode()}), 401)
        assert client.get("/healthz").status_code == client.get("/openapi.json").status_code == 200
        job = client.post("/v1/generate", json=ASKED, headers={"Authorization": f"Bearer {mine}"}).json()
        client.headers["Authorization"] = f"Bearer {yours}"
        assert "no such job" in refused(client.get(f"/v1/jobs/{job['id']}"), 404)
        for _ in range(5):
            assert client.get("/v1/models").status_code == 200
        response = client.get("/v1/models")
        assert "Too many" in refused(response, 429) and 1 <= int(response.headers["retry-after"]) <= 60
        client.headers["Authorization"] = f"Bearer {mine}"
        assert client.get(f"/v1/jobs/{job['id']}").json()["status"] == "succeeded"


def test_a_key_has_so_many_jobs_at_most(gate: Gate) -> None:
    app = build_app(engine_of(gate), keys=Keys(["k" * 16]), limits=Limits(concurrency=1))
    headers = {"Authorization": f"Bearer {'k' * 16}"}
    with listening(app) as address, httpx.Client(base_url=address, headers=headers) as client:
        assert client.post("/v1/generate", json=ASKED | {"wait": False}).status_code == 202
        assert "1 unfinished" in refused(client.post("/v1/generate", json=ASKED), 429)


def test_requests_that_come_together_do_not_exceed_that(gate: Gate) -> None:
    both_read = Barrier(2)

    class Together(Limits):
        def check(self, job: JobRequest, model: ModelInfo) -> None:
            both_read.wait(30)

    app = build_app(engine_of(gate), keys=Keys(["k" * 16]), limits=Together(concurrency=1))
    headers = {"Authorization": f"Bearer {'k' * 16}"}
    with (
        listening(app) as address,
        httpx.Client(base_url=address, headers=headers) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        answers = threads.map(lambda _: client.post("/v1/generate", json=ASKED | {"wait": False}), range(2))
        assert sorted(answer.status_code for answer in answers) == [202, 429]


def test_a_server_that_is_being_stopped_says_so(gate: Gate) -> None:
    engine = engine_of(gate)
    with listening(build_app(engine)) as address, httpx.Client(base_url=address) as client:
        engine.close()
        assert "being stopped" in refused(client.post("/v1/generate", json=ASKED), 503)
        assert client.get("/healthz").status_code == 503


def test_a_request_that_breaks_off_is_no_error_of_the_server(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    with listening(build_app(engine_of(gate), metrics=metrics)) as address:
        host, port = address.removeprefix("http://").split(":")
        with create_connection((host, int(port))) as connection:
            head = f"POST /v1/generate HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Content-Length: 99\r\n\r\n{{".encode())
        while b"/v1/generate" not in (counted := generate_latest(metrics.registry)):
            pass
    assert b'status="499"' in counted and not caplog.records


def test_large_bodies_are_not_read(gate: Gate) -> None:
    app = build_app(engine_of(gate), limits=Limits(body=1000))
    with listening(app) as address, httpx.Client(base_url=address) as client:
        assert "1000 bytes" in refused(client.post("/v1/generate", json=ASKED | {"start": "a" * 1000}), 413)
        chunks = (b"a" * 300 for _ in range(10))
        kind = {"content-type": "application/json"}
        assert "1000 bytes" in refused(client.post("/v1/generate", content=chunks, headers=kind), 413)
        form = client.post("/v1/images/variations", files={"image": b"a" * 2000})
        assert "1000 bytes" in refused(form, 413)


def test_other_pages_may_not_ask_unless_they_are_allowed(gate: Gate) -> None:
    gate.go.set()
    page = {"origin": "https://page.example"}
    with listening(build_app(engine_of(gate))) as address, httpx.Client(base_url=address) as client:
        refused(client.post("/v1/generate", json=ASKED, headers=page), 403)
        refused(client.get("/v1/models", headers={"host": "rebound.example"}), 403)
        own = client.get("/v1/models", headers={"origin": address})
        assert own.status_code == 200 and "access-control-allow-origin" not in own.headers
    app = build_app(engine_of(gate), origins=[page["origin"]])
    with listening(app) as address, httpx.Client(base_url=address) as client:
        asked = page | {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        assert client.options("/v1/generate", headers=asked).headers["access-control-allow-origin"] == page["origin"]
        allowed = client.post("/v1/generate", json=ASKED, headers=page)
        assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == page["origin"]
        refused(client.get("/v1/models", headers={"origin": "https://other.example"}), 403)
