"""OpenAI's own client asks a real server, for all that it can ask of pictures."""

import base64
import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from PIL import Image

from tests.unit.serving.running import encoded, listening
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.workers import LocalWorker
from versatile_diffusion.provenance.comparison import compared
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.keys import Keys
from versatile_diffusion.serving.openai_api import MADE_AT

KEY = "a-key-for-the-tests"
TENT = "a red tent in the meadow"
OURS = {"seed": 3, "steps": 2}


@pytest.fixture(scope="module")
def client(session_pipe: VersatileDiffusionPipeline) -> Iterator[openai.OpenAI]:
    app = build_app(Engine(LocalWorker({"tiny": session_pipe})), keys=Keys([KEY]))
    with listening(app) as address:
        yield openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0)


def pictures(response: openai.types.ImagesResponse | None) -> list[Image.Image]:
    assert response is not None and response.data is not None and response.created > 1e9
    return [Image.open(BytesIO(base64.b64decode(image.b64_json or ""))) for image in response.data]


def same(image: Image.Image, other: Image.Image) -> bool:
    return image.size == other.size and bool(np.abs(np.array(image, int) - np.array(other, int)).max() <= 1)


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


def test_generations(client: openai.OpenAI, pipe: VersatileDiffusionPipeline) -> None:
    made = pictures(client.images.generate(prompt=TENT, model="tiny", n=2, quality="low", extra_body=OURS))
    expected = pipe.text_to_image(TENT, num_outputs=2, num_inference_steps=2, generator=seeds(3, 4)).images
    assert all(same(one, other) for one, other in zip(made, expected, strict=True))
    wide = client.images.generate(prompt=TENT, size="64x32", response_format="b64_json", extra_body=OURS)  # pyright: ignore
    assert pictures(wide)[0].size == (64, 32)


def test_variations(client: openai.OpenAI, pipe: VersatileDiffusionPipeline, picture: Image.Image) -> None:
    made = pictures(client.images.create_variation(image=encoded(picture), extra_body=OURS))
    expected = pipe.image_variation(picture, num_inference_steps=2, generator=seeds(3)).images
    assert same(made[0], expected[0])


def test_edits(client: openai.OpenAI, pipe: VersatileDiffusionPipeline, picture: Image.Image) -> None:
    seen = Image.new("L", picture.size, 255)
    seen.paste(0, (0, 0, 20, 30))
    mask = picture.convert("RGBA")
    mask.putalpha(seen)
    files = [encoded(picture), encoded(picture.rotate(180))]
    made = pictures(client.images.edit(image=files, mask=encoded(mask), prompt=TENT, extra_body=OURS))
    contexts = [
        Context("text", TENT, weight=0.8),
        Context("image", picture, mask=seen, weight=0.1),
        Context("image", picture.rotate(180), weight=0.1),
    ]
    expected = pipe.generate("image", contexts, num_inference_steps=2, generator=seeds(3)).images
    assert same(made[0], expected[0])
    assert len(pictures(client.images.edit(image=files[0], prompt=TENT, n=2, extra_body=OURS))) == 2
    with pytest.raises(openai.UnprocessableEntityError, match="no transparency"):
        client.images.edit(image=files[0], mask=files[0], prompt=TENT, extra_body=OURS)


def url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.encodebytes(content).decode()}"


def same_edits(picture: Image.Image) -> dict[str, dict[str, Any]]:
    """One edit, as clients send it: arguments of httpx."""
    content = encoded(picture)
    words = {"prompt": TENT, **OURS}
    ours = {name: str(value) for name, value in words.items()}
    return {
        "a form": {"data": ours, "files": {"image": content}},
        "a form of lists": {"data": ours, "files": [("image[]", content)]},
        "a data URL in a form": {"data": ours | {"image": url(content)}, "files": {"nothing": b""}},
        "a form of words": {"data": ours | {"image": url(content)}},
        "JSON": {"json": words | {"image": url(content), "size": None}},
        "JSON of lists": {"json": words | {"image": [base64.b64encode(content).decode()]}},
        "JSON of OpenAI": {"json": words | {"images": [{"image_url": url(content)}]}},
        "JSON of chats": {"json": words | {"image": {"type": "image_url", "image_url": {"url": url(content)}}}},
    }


def test_edits_in_all_the_ways_that_clients_send_them(
    client: openai.OpenAI, pipe: VersatileDiffusionPipeline, picture: Image.Image
) -> None:
    contexts = [Context("text", TENT, weight=0.8), Context("image", picture, weight=0.2)]
    expected = pipe.generate("image", contexts, num_inference_steps=2, generator=seeds(3)).images[0]
    for way, sent in same_edits(picture).items():
        response = plain(client).post("images/edits", **sent)
        assert response.status_code == 200, (way, response.text)
        assert same(shown(response), expected), way


def test_variations_and_generations_in_other_ways(
    client: openai.OpenAI, pipe: VersatileDiffusionPipeline, picture: Image.Image
) -> None:
    like = pipe.image_variation(picture, num_inference_steps=2, generator=seeds(3)).images[0]
    for image in (url(encoded(picture)), [url(encoded(picture))], {"b64_json": url(encoded(picture))}):
        assert same(shown(plain(client).post("images/variations", json={"image": image, **OURS})), like)
    made = pipe.text_to_image(TENT, num_inference_steps=2, guidance_rescale=0.5, generator=seeds(3)).images[0]
    asked = json.dumps({"prompt": TENT, "guidance_rescale": 0.5, **OURS}).encode()
    for headers in ({}, {"content-type": "application/x-www-form-urlencoded"}, {"content-type": "text/plain"}):
        assert same(shown(plain(client).post("images/generations", content=asked, headers=headers)), made)


def test_what_cannot_be_read_is_told(client: openai.OpenAI, picture: Image.Image) -> None:
    def told(path: str, **sent: Any) -> str:
        response = plain(client).post(f"images/{path}", **sent)
        assert response.status_code == 422, response.text
        return response.json()["error"]["message"]

    assert "neither a form nor JSON" in told("generations", content=b"a red tent")
    assert "an object of JSON" in told("generations", json=["a red tent"])
    assert "prompt is missing" in told("generations", json={})
    assert "no picture to edit" in told("edits", json={"prompt": TENT})
    assert "base64" in told("edits", json={"prompt": TENT, "image": "https://example.org/a.png"})
    assert "base64" in told("variations", json={"image": "/etc/passwd"})
    assert "image is missing" in told("variations", files={"picture": encoded(picture)})


def test_any_size_is_made_at_the_models_own_and_resampled(
    client: openai.OpenAI, pipe: VersatileDiffusionPipeline
) -> None:
    own = pipe.text_to_image(TENT, num_inference_steps=2, generator=seeds(3)).images[0]
    for size in ("1024x1024", "256X256", "96 × 96"):
        response = plain(client).post("images/generations", json={"prompt": TENT, "size": size, **OURS})
        side = int(size.lower().partition("x")[0].partition("×")[0])
        assert same(shown(response), own.resize((side, side), Image.Resampling.LANCZOS)), size
        answer = response.json()
        assert answer["size"] == f"{side}x{side}" and answer["made_at"] == "32x32" == response.headers[MADE_AT]
        assert "resampled" in answer["notes"][-1]
        assert compared(shown(response), own)["same"], "vd replay resamples, too"
    wide = plain(client).post("images/generations", json={"prompt": TENT, "size": "448x256", **OURS})
    assert shown(wide).size == (448, 256) and wide.json()["made_at"] == "42x24"
    for absent in ({}, {"size": "auto"}, {"size": None}, {"size": ""}):
        response = plain(client).post("images/generations", json={"prompt": TENT, **OURS, **absent})
        assert same(shown(response), own) and response.json()["notes"] == []


def test_files_of_other_formats(client: openai.OpenAI) -> None:
    for kind in ("jpeg", "webp"):
        made = client.images.generate(
            prompt=TENT, output_format=kind, output_compression=80, size="1024x1024", extra_body=OURS
        )
        assert made.output_format == kind and pictures(made)[0].format == kind.upper()


def test_what_clients_and_their_imitators_send_besides(client: openai.OpenAI, picture: Image.Image) -> None:
    besides = {"quality": "hd", "style": "vivid", "user": "me", "moderation": "low", "background": "auto"}
    besides |= {"n": "2", "seed": "3", "steps": "2", "stream": False, "partial_images": 0, "input_fidelity": "high"}
    asked = {"prompt": TENT, **besides}
    assert len(plain(client).post("images/generations", json=asked).json()["data"]) == 2
    form = {name: str(value) for name, value in asked.items()} | {
        "size": "",
        "model": "",
        "response_format": "b64_json",
    }
    content = encoded(picture)
    files: list[tuple[str, Any]] = [("image[]", content), ("image[]", content)]
    assert len(plain(client).post("images/edits", data=form, files=files).json()["data"]) == 2
    variation = plain(client).post("images/variations", data=form, files={"image": content})
    assert len(variation.json()["data"]) == 2


def test_what_is_not_offered_is_told(client: openai.OpenAI, picture: Image.Image) -> None:
    def told(**changes: Any) -> str:
        response = plain(client).post("images/generations", json={"prompt": TENT, **OURS} | changes)
        assert response.status_code == 422, response.text
        return response.json()["error"]["message"]

    assert "not as a stream" in told(stream=True)
    assert "response_format must be 'b64_json', got \"url\"" in told(response_format="url")
    assert "output_format must be" in told(output_format="tiff") and "'webp'" in told(output_format="tiff")
    assert "WIDTHxHEIGHT" in told(size="16:9") and 'got "16:9"' in told(size="16:9")
    assert "n must be a whole number" in told(n="two") and "n must be 1 or more, got 0" in told(n=0)
    assert "16777216 pixels together" in told(size="8192x8192")
    assert "prompt must have 1 characters at least" in told(prompt="")
    assert (
        "must hold 16 at most"
        in (
            plain(client)
            .post("images/edits", json={"prompt": TENT, "image": [url(encoded(picture))] * 17})
            .json()["error"]["message"]
        )
    )


def plain(client: openai.OpenAI) -> httpx.Client:
    return httpx.Client(base_url=str(client.base_url), headers={"authorization": f"Bearer {KEY}"}, timeout=60)


def shown(response: httpx.Response) -> Image.Image:
    assert response.status_code == 200, response.text
    return Image.open(BytesIO(base64.b64decode(response.json()["data"][0]["b64_json"])))


def test_its_errors_are_the_clients_errors(client: openai.OpenAI, picture: Image.Image) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    with pytest.raises(openai.UnprocessableEntityError, match="b64_json"):
        client.images.generate(prompt=TENT, response_format="url", extra_body=OURS)
    with pytest.raises(openai.NotFoundError, match="no model 'dall-e-2': take tiny"):
        client.images.generate(prompt=TENT, model="dall-e-2")
    with pytest.raises(openai.UnprocessableEntityError, match="8 outputs"):
        client.images.generate(prompt=TENT, n=9)
    with pytest.raises(openai.UnprocessableEntityError, match="PNG"):
        client.images.create_variation(image=b"/etc/passwd")
    with pytest.raises(openai.AuthenticationError, match="Send a key"):
        client.with_options(api_key="wrong").images.generate(prompt=TENT)
