"""Whatever is asked within the OpenAPI document, the answer is one that the document names, and never an error 500."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from PIL import Image
from schemathesis import Case, checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.unit.serving import encoded, listening
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.engine import Engine
from versatile_diffusion.serving.limits import Limits
from versatile_diffusion.serving.workers import LocalWorker

CASES = 15
PICTURE = encoded(Image.new("RGB", (9, 12), "navy"))
CHECKS = [
    checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def document(session_pipe: VersatileDiffusionPipeline) -> Iterator[Any]:
    app = build_app(Engine(LocalWorker({"tiny": session_pipe})), limits=Limits(steps=4, outputs=3, pixels=96 * 96))
    with listening(app) as address:
        document = schemathesis.openapi.from_url(f"{address}/openapi.json")
        document.hook("map_body")(believable)
        yield document


def believable(context: Any, body: Any) -> Any:
    """Half of the bodies with pictures for noise, the model's name and moderate numbers, which are computed."""
    if not isinstance(body, dict) or len(str(body)) % 2:
        return body
    asked = {key: value for key, value in body.items() if key not in ("model", "size", "response_format")}
    if "image" in asked:
        asked["image"] = PICTURE
    for name, most in (("n", 3), ("num_outputs", 3), ("steps", 3), ("num_inference_steps", 4), ("preview_every", 3)):
        if isinstance(asked.get(name), int):
            asked[name] = 1 + asked[name] % most
    for name in ("height", "width"):
        if isinstance(asked.get(name), int):
            asked[name] = 8 * (1 + asked[name] % 8)
    for name in ("start", "colors_of"):
        if asked.get("to") == "image" and name in asked:
            asked[name] = base64.b64encode(PICTURE).decode()
    for name in ("contexts", "negative"):
        if isinstance(asked.get(name), list):
            asked[name] = [_seen(context) for context in asked[name] if isinstance(context, dict)]
    return asked


def _seen(context: dict[str, Any]) -> dict[str, Any]:
    picture = base64.b64encode(PICTURE).decode()
    data = picture if context.get("modality") == "image" else "a red tent"
    kept = {name: context[name] for name in ("modality", "weight", "focus") if name in context}
    masked = {"mask": picture} if "mask" in context and data is picture else {}
    return kept | {"data": data} | masked


@pytest.mark.slow
def test_answers_are_as_the_document_says(document: Any) -> None:
    labels = []
    for found in document.get_all_operations():
        operation = found.ok()
        labels.append(operation.label)

        @settings(max_examples=CASES, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy())
        def ask(case: Case) -> None:
            case.call_and_validate(checks=CHECKS, timeout=60)  # pyright: ignore[reportArgumentType]

        ask()
    assert "POST /v1/generate" in labels and len(labels) == 11
