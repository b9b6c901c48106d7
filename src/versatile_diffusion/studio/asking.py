"""What each task asks of the engine for what was filled in, as fields of the JSON of `GenerateIn`."""

from __future__ import annotations

import base64

from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.serving.tasks import edit_of, variation_of
from versatile_diffusion.studio.controls import MaskedImage, MissingInput, NamedFile, Values, number_in, text_in
from versatile_diffusion.studio.embeddings_file import embedding_contexts

MIXED_IMAGES = 4
"""How many images a mixture may have."""


def ask_of_text(values: Values) -> dict[str, object]:
    """Asks for something that is made of a text."""
    return {"contexts": [text_context(values, "prompt")]}


def ask_of_image(values: Values) -> dict[str, object]:
    """Asks for something that is made of an image."""
    return {"contexts": [image_context(values, "picture")]}


def ask_for_variations(values: Values) -> dict[str, object]:
    """Asks for images like an image, as near to it as was wanted."""
    seen = image_context(values, "picture", focus=number_in(values, "focus"))
    return variation_of(seen, fidelity=number_in(values, "fidelity"), color_adjust=bool(values["colors"]))


def ask_of_both(values: Values) -> dict[str, object]:
    """Asks for images of a text and an image, each with its share."""
    share = number_in(values, "share")
    image = image_context(values, "picture", weight=1 - share)
    return {"contexts": [text_context(values, "prompt", weight=share), image]}


def ask_of_mixture(values: Values) -> dict[str, object]:
    """Asks for images of everything that was filled in."""
    weights = [number_in(values, f"weight{number}") for number in _filled_in(values)]
    contexts = [
        image_context(values, f"picture{number}", weight=weight, focus=number_in(values, f"focus{number}"))
        for number, weight in zip(_filled_in(values), weights, strict=True)
    ]
    if text_in(values, "prompt"):
        weights.append(number_in(values, "weight"))
        contexts.append(text_context(values, "prompt", weight=weights[-1]))
    if not contexts:
        raise MissingInput("There is nothing to mix: choose a picture, or write some words.")
    if not any(weights):
        raise MissingInput("All weights are 0: raise one of them.")
    return {"contexts": contexts}


def ask_to_edit(values: Values) -> dict[str, object]:
    """Asks for an image that is changed by words."""
    words = {name: text_in(values, name) for name in ("prompt", "remove", "add")}
    if not any(words.values()):
        changes = "write what the picture is to become, or what is to go or to come"
        raise MissingInput(f"There is nothing to change: {changes}.")
    changes = {**words, "text_share": number_in(values, "share")}
    return edit_of(image_context(values, "picture"), changes, strength=number_in(values, "strength"))


def ask_of_embeddings(values: Values) -> dict[str, object]:
    """Asks for images of the embeddings in a file."""
    file = values["file"]
    if not isinstance(file, NamedFile):
        raise MissingInput("There are no embeddings yet: choose a .safetensors, .npz or .npy file.")
    scan = int(number_in(values, "scan")) if values["scan"] is not None else 0
    return {"contexts": embedding_contexts(file, scan, number_in(values, "share"))}


def _filled_in(values: Values) -> list[int]:
    """Numbers of the images of a mixture that were chosen."""
    return [number for number in range(1, MIXED_IMAGES + 1) if values[f"picture{number}"] is not None]


# ---- parts of requests ----


def text_context(values: Values, name: str, **options: float) -> dict[str, object]:
    """Returns a text as a context. Raises `MissingInput` if there is none."""
    words = text_in(values, name)
    if not words:
        raise MissingInput("There is no text yet: write one, or click an example.")
    return {"modality": TEXT.name, "data": words, **options}


def image_context(values: Values, name: str, **options: float) -> dict[str, object]:
    """Returns an image as a context, with its mask if it has one. Raises `MissingInput` if there is none."""
    match values[name]:
        case bytes(image):
            return {"modality": IMAGE.name, "data": as_base64(image), **options}
        case MaskedImage(image, mask):
            masked = {} if mask is None else {"mask": as_base64(mask)}
            return {"modality": IMAGE.name, "data": as_base64(image), **masked, **options}
        case _:
            raise MissingInput("There is no picture yet: choose one, or click an example.")


def as_base64(content: bytes) -> str:
    """Returns bytes as JSON holds them."""
    return base64.b64encode(content).decode()
