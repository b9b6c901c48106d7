"""Whatever is asked within the OpenAPI document, the answer is one that the document names, and never an error 500."""

import base64
from collections import Counter
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

from tests.unit.serving.running import encoded, listening
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.workers import LocalWorker
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.limits import Limits

CASES = 60  # of an operation; those without a body have fewer, since there are no more
UNCHECKED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
PICTURE = encoded(Image.new("RGB", (9, 12), "navy"))
TEXT = base64.b64encode(PICTURE).decode()
LIGHT = base64.b64encode(encoded(Image.new("L", (9, 12), "white"))).decode()
KEPT = (
    *("prompt", "n", "seed", "to", "contexts", "negative", "num_outputs", "eta", "wait"),
    *("scheduler", "guidance_scale", "preview_every"),
)
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
        yield schemathesis.openapi.from_url(f"{address}/openapi.json")


def believable(body: Any, is_form: bool) -> Any:
    """The body with pictures for noise, the model's own name and moderate numbers, so that it can be computed."""
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("request"), dict):  # a form
        return {"request": believable(body["request"], False)}
    asked = {name: value for name, value in body.items() if name in KEPT and value is not None}
    asked |= {"num_inference_steps": 4} if "contexts" in asked else {"steps": 2}
    if is_form:
        asked["image"] = PICTURE
    for name, most in (("n", 3), ("num_outputs", 3), ("preview_every", 3)):
        if isinstance(asked.get(name), int):
            asked[name] = 1 + asked[name] % most
    for name in ("contexts", "negative"):
        if isinstance(asked.get(name), list):
            asked[name] = [_seen(context) for context in asked[name][:3] if isinstance(context, dict)]
    if asked.get("to") == "image" and len(str(body)) % 3 == 0:
        asked |= {"start": TEXT, "strength": 0.5, "height": 40, "width": 64}
    return asked


def _seen(context: dict[str, Any]) -> dict[str, Any]:
    is_picture = context.get("modality") == "image"
    kept = {name: context[name] for name in ("modality", "weight", "focus") if name in context}
    if not is_picture:
        kept.pop("focus", None)
    masked = {"mask": LIGHT} if "mask" in context and is_picture else {}
    return kept | {"data": TEXT if is_picture else "a red tent"} | masked


@pytest.mark.slow
def test_answers_are_as_the_document_says(document: Any) -> None:
    labels, asked = [], Counter[str]()
    for found in document.get_all_operations():
        operation = found.ok()
        labels.append(operation.label)

        @settings(max_examples=CASES, suppress_health_check=UNCHECKED)
        @given(operation.as_strategy())
        def ask(case: Case) -> None:
            asked[case.operation.label] += 1
            if len(str(case.body)) % 2:
                case.body = believable(case.body, "json" not in (case.media_type or ""))
            case.call_and_validate(checks=CHECKS, timeout=60)  # pyright: ignore[reportArgumentType]

        ask()
    assert {"POST /v1/generate", "POST /v1/audio/speech"} < set(labels) and len(labels) == 12
    assert asked.total() >= 400, asked
