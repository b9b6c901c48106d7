"""The handler that Inference Endpoints of the hub call: {"inputs": …, "parameters": {…}} in, outputs out."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from versatile_diffusion.engine.workers import Source, open_models
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.serving.plain import answers, read

_WORDS_MAKE, _PICTURES_MAKE = Flow(TEXT.name, IMAGE.name), Flow(IMAGE.name, TEXT.name)


class EndpointHandler:
    """Answers requests with a model.

    Args:
        path: of the repository of the model.
        device: see `choose_device`.
        dtype: see `choose_dtype`.
    """

    def __init__(self, path: str | Path = "", device: str = "auto", dtype: str = "auto", **options: object) -> None:
        source = Source.parse(str(path))
        self._name = source.name
        self._pipe = open_models([source], device, dtype)[source.name]

    def __call__(self, data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Returns what was made, each output with its seed: {"text": …}, or {"image": …} as a PNG in base64.

        Args:
            data: "inputs" are words, a picture (an image of PIL or base64 of its file), or a whole body of
                `POST /v1/generate`. "parameters" are options of that body, and "task", a flow such as
                "image-variation"; without one, words are painted and pictures are described.

        Raises:
            ValueError: if it is not as expected; the message says what is.
        """
        request = read(self._pipe, _body(data), self._name)
        answer = answers(self._pipe, [request])[0]
        if "error" in answer:
            raise ValueError(answer["error"]["message"])
        made = cast("Sequence[dict[str, Any]]", answer["outputs"])
        return [{name: value for name, value in output.items() if value is not None} for output in made]


def _body(data: Mapping[str, Any]) -> dict[str, object]:
    """The body of a request to the server that stands for this one."""
    inputs: object = data.get("inputs")
    options: dict[str, Any] = {**(data.get("parameters") or {})}
    task = options.pop("task", None)
    if isinstance(inputs, Mapping):
        return {**cast("Mapping[str, object]", inputs), **options}
    if inputs is None:
        raise ValueError('"inputs" is missing: give words, a picture, or an object with "to" and "contexts".')
    words = isinstance(inputs, str)
    flow = (_WORDS_MAKE if words else _PICTURES_MAKE) if task is None else Flow.parse(task)
    held = inputs if words else base64.b64encode(modality_spec(flow.context).codec.encode(inputs)).decode()
    return {"to": flow.output, "contexts": [{"modality": flow.context, "data": held}], **options}
