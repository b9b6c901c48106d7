"""The tasks of the studio: what is filled in, and what is then asked of the engine, as the JSON of `GenerateIn`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from versatile_diffusion.studio.controls import (
    Control,
    Count,
    Embeddings,
    Painted,
    Painting,
    Picture,
    Share,
    Switch,
    Values,
    Words,
)

PICTURES = 4
"""Of a mixture."""


class Missing(ValueError):
    """Something was not filled in; the message says what to do."""


@dataclass(frozen=True)
class Task:
    """A task.

    Attributes:
        key: its name in addresses and files.
        title: of its tab.
        hint: what it does, in a line.
        to: modality that it makes.
        controls: what there is to fill in.
        ask: what was filled in -> fields of `GenerateIn`. Raises `Missing`.
    """

    key: str
    title: str
    hint: str
    to: str
    controls: Sequence[Control]
    ask: Callable[[Values], dict[str, Any]]

    def takes(self, modality: str) -> Control | None:
        """Where a result of that modality can be put as input."""
        kinds = (Picture, Painted) if modality == "image" else (Words,)
        return next((control for control in self.controls if isinstance(control, kinds)), None)


def from_text(values: Values) -> dict[str, Any]:
    return {"contexts": [text(values, "prompt")]}


def from_picture(values: Values) -> dict[str, Any]:
    return {"contexts": [picture(values, "picture")]}


def image_variation(values: Values) -> dict[str, Any]:
    seen = picture(values, "picture", focus=values["focus"])
    kept = {"start": seen["data"], "strength": 1 - values["fidelity"]} if values["fidelity"] else {}
    colors = {"colors_of": seen["data"]} if values["colors"] else {}
    return {"contexts": [seen], **kept, **colors}


def dual_context(values: Values) -> dict[str, Any]:
    share = values["share"]
    return {"contexts": [text(values, "prompt", weight=share), picture(values, "picture", weight=1 - share)]}


def multi_context(values: Values) -> dict[str, Any]:
    contexts = []
    for number in range(1, PICTURES + 1):
        if values[f"picture{number}"] is not None:
            options = {name: values[f"{name}{number}"] for name in ("weight", "focus")}
            contexts.append(picture(values, f"picture{number}", **options))
    if (values["prompt"] or "").strip():
        contexts.append(text(values, "prompt", weight=values["weight"]))
    if not contexts:
        raise Missing("There is nothing to mix: choose a picture, or write some words.")
    if not any(context["weight"] for context in contexts):
        raise Missing("All weights are 0: raise one of them.")
    return {"contexts": contexts}


def edit(values: Values) -> dict[str, Any]:
    words = {name: (values[name] or "").strip() for name in ("prompt", "remove", "add")}
    if not any(words.values()):
        raise Missing("There is nothing to change: write what the picture is to become, or what is to go or to come.")
    seen = picture(values, "picture")
    kept = {"start": seen["data"], "strength": values["strength"]} if values["strength"] < 1 else {}
    return {"contexts": [seen], "edit": {**words, "text_share": values["share"]}, **kept}


def reconstruct(values: Values) -> dict[str, Any]:
    from versatile_diffusion.studio.embedded import contexts_of

    if values["file"] is None:
        raise Missing("There are no embeddings yet: choose a .safetensors, .npz or .npy file.")
    return {"contexts": contexts_of(values["file"], int(values["scan"] or 0), values["share"])}


def mixed_picture(number: int) -> list[Control]:
    """What there is to fill in for one of the pictures of a mixture."""
    group = f"Picture {number}"
    return [
        Painted(f"picture{number}", group, "Paint over what is to be left out.", group=group),
        Share(f"weight{number}", "Weight", group=group, default=1.0),
        Share(f"focus{number}", "Focus", "0 keeps what is shown, 1 keeps how it looks.", group=group),
    ]


# ---- parts of requests ----


def text(values: Values, name: str, **options: Any) -> dict[str, Any]:
    """A text as a context."""
    words = (values[name] or "").strip()
    if not words:
        raise Missing("There is no text yet: write one, or click an example.")
    return {"modality": "text", "data": words, **options}


def picture(values: Values, name: str, **options: Any) -> dict[str, Any]:
    """A picture as a context."""
    given = values[name]
    if given is None:
        raise Missing("There is no picture yet: choose one, or click an example.")
    if isinstance(given, Painting):
        mask = {} if given.mask is None else {"mask": encoded(given.mask)}
        return {"modality": "image", "data": encoded(given.picture), **mask, **options}
    return {"modality": "image", "data": encoded(given), **options}


def encoded(content: bytes) -> str:
    """Bytes in JSON."""
    return base64.b64encode(content).decode()


PROMPT = Words("prompt", "Text", placeholder="a watercolor of a red lighthouse by the sea")
PICTURE = Picture("picture", "Picture")

TASKS = (
    Task(
        "text-to-image",
        "Text to image",
        "Pictures of what you write.",
        "image",
        [PROMPT],
        from_text,
    ),
    Task(
        "image-to-text",
        "Image to text",
        "Texts about a picture.",
        "text",
        [PICTURE],
        from_picture,
    ),
    Task(
        "image-variation",
        "Image variation",
        "Other pictures like a picture.",
        "image",
        [
            PICTURE,
            Share(
                "fidelity", "Fidelity", "How much of the layout is kept: 0 is free, 1 is the picture itself.", default=0
            ),
            Share("focus", "Focus", "0 keeps what is shown, 1 keeps how it looks, 0.5 keeps both."),
            Switch("colors", "Keep the colours", "Give the results the colour statistics of the picture."),
        ],
        image_variation,
    ),
    Task(
        "text-variation",
        "Text variation",
        "Other texts that say much the same.",
        "text",
        [PROMPT],
        from_text,
    ),
    Task(
        "dual-context",
        "Dual context",
        "Pictures of a text and a picture at once.",
        "image",
        [PROMPT, PICTURE, Share("share", "Share of the text", "0 is the picture alone, 1 the text alone.")],
        dual_context,
    ),
    Task(
        "multi-context",
        "Multi-context",
        "One picture from up to four, and a text. Paint over what is to be left out of a picture.",
        "image",
        [
            PROMPT,
            Share("weight", "Weight of the text", default=1.0),
            *(control for number in range(1, PICTURES + 1) for control in mixed_picture(number)),
        ],
        multi_context,
    ),
    Task(
        "edit",
        "Edit",
        "A picture changed by words.",
        "image",
        [
            PICTURE,
            Words("prompt", "What it is to become", placeholder="make this picture an oil painting"),
            Words("remove", "What is to go", placeholder="lighthouse"),
            Words("add", "What is to come", placeholder="windmill"),
            Share("share", "Share of the words", "The rest is the old picture's.", default=0.8),
            Share("strength", "Strength", "Below 1 keeps some of the layout, 0 keeps all.", default=1.0),
        ],
        edit,
    ),
    Task(
        "reconstruct",
        "Reconstruct",
        "Pictures of CLIP embeddings, such as those predicted from scans of a brain; `vd embed` writes some.",
        "image",
        [
            Embeddings(
                "file", "File of embeddings", ".safetensors or .npz with arrays image and text, or .npy of one."
            ),
            Count("scan", "Scan", "Row of the file, counted from 0."),
            Share("share", "Share of the image", "Where the file holds a text as well."),
        ],
        reconstruct,
    ),
)
