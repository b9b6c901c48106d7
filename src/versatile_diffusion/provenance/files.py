"""A recipe together with its inputs, as PNG chunks, JSON and folders hold them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic import ValidationError

from versatile_diffusion.files import write_whole
from versatile_diffusion.provenance import png
from versatile_diffusion.provenance.inputs import FOLDER, file_name, find, named, restored, stored
from versatile_diffusion.provenance.record import CHUNK, Recipe

if TYPE_CHECKING:
    from torch import Tensor

MOST_EMBEDDED = 2**20
"""Bytes of values. Inputs up to this lie in the recipe itself; larger ones in files, or with those who gave them."""

_LONGEST = 8 * 2**20


class NoRecipe(ValueError):
    """There is no recipe that can be used; the message is for the user."""


@dataclass(frozen=True)
class Kept:
    """A recipe with the inputs that are at hand, by their checksums."""

    recipe: Recipe
    inputs: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Whether the recipe holds its inputs where it is written down."""
        return sum(value.nbytes for value in self.inputs.values()) <= MOST_EMBEDDED

    @property
    def missing(self) -> list[str]:
        """Inputs that are not at hand, in words."""
        return [str(one) for sha256, one in self.recipe.inputs.items() if sha256 not in self.inputs]

    def require_inputs(self) -> None:
        """Raises NoRecipe unless all inputs are at hand."""
        if self.missing:
            advice = "Give the files that they were read from with --input"
            raise NoRecipe(f"Inputs are missing: {'; '.join(self.missing)}. {advice}.")

    @property
    def json(self) -> str:
        """The recipe on one line, with its inputs if they are small."""
        return self.written(self.embedded)

    @property
    def embedded(self) -> dict[str, str]:
        """The inputs in base64 if they are small, else none."""
        if not self.is_whole:
            return {}
        return {sha256: base64.b64encode(stored(value)).decode() for sha256, value in self.inputs.items()}

    def written(self, embedded: Mapping[str, str]) -> str:
        """The recipe on one line, with inputs that were encoded before."""
        entries = self.recipe.model_dump(mode="json", exclude_defaults=True) | {"format": self.recipe.format}
        return json.dumps(entries | ({"inputs": dict(embedded)} if embedded else {}))

    def files(self) -> dict[str, bytes]:
        """Contents of the files that belong beside it, by their names in its folder; none if the inputs are small."""
        if self.is_whole:
            return {}
        return {f"{FOLDER}/{file_name(value)}": stored(value) for value in self.inputs.values()}

    def with_inputs(self, values: Iterable[Tensor]) -> Kept:
        """With more inputs at hand, as far as the recipe asks for them."""
        found = {named(value).sha256: value for value in values}
        return Kept(self.recipe, {**self.inputs, **{key: found[key] for key in self.recipe.inputs if key in found}})

    def from_folder(self, folder: Path) -> Kept:
        """With the inputs that lie in a folder of inputs."""
        found = (find(folder, sha256) for sha256 in self.recipe.inputs if sha256 not in self.inputs)
        return self.with_inputs(value for value in found if value is not None)


def parsed(text: str) -> Kept:
    """A recipe from its JSON.

    Raises:
        NoRecipe: if it is none, or its inputs are damaged.
    """
    if len(text) > _LONGEST:
        raise NoRecipe(f"The recipe is longer than {_LONGEST} characters: it was not written here.")
    try:
        entries = json.loads(text)
        embedded = entries.pop("inputs", {}) if isinstance(entries, dict) else {}
        version = entries.get("format") if isinstance(entries, dict) else None
        if version != 1:
            raise NoRecipe(f"The recipe is of format {version!r:.20}, and this version reads format 1: update it.")
        recipe = Recipe.model_validate_json(json.dumps(entries))
        if not isinstance(embedded, dict):
            raise NoRecipe("The recipe cannot be used: its inputs are no object.")
        inputs = [restored(base64.b64decode(embedded[key], validate=True)) for key in recipe.inputs if key in embedded]
    except NoRecipe:
        raise
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        deepest = max(found, key=lambda one: len(one["loc"]))
        where = ".".join(map(str, deepest["loc"])) or "it"
        raise NoRecipe(f"The recipe cannot be used: {where}: {deepest['msg']}.") from error
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise NoRecipe(f"The recipe cannot be used: {error}") from error
    return Kept(recipe).with_inputs(inputs)


def read(file: Path) -> list[tuple[Kept, Any]]:
    """Recipes of a file, each with the output that was made by it, a picture or a text, if the file holds that.

    Args:
        file: a PNG; or JSON: a recipe, or an object (or a list of them) with a recipe under "request". Inputs are also
            looked for in the folder inputs/ beside it.

    Raises:
        NoRecipe: if there is no recipe, or none that can be used.
        ValueError: if the file cannot be read.
    """
    found = _of_picture(file) if file.suffix.lower() != ".json" else _of_json(file)
    return [(kept.from_folder(file.parent / FOLDER), output) for kept, output in found]


def write_picture(file: Path, picture: Image.Image, words: Mapping[str, Any], kept: Kept | None) -> None:
    """Writes a picture as a PNG with its recipe, in words and to replay, after the inputs that belong beside it."""
    for name, content in ({} if kept is None else kept.files()).items():
        if not (file.parent / name).exists():
            write_whole(file.parent / name, content)
    write_whole(file, png(picture, words if kept is None else {**words, CHUNK: kept.json}))


def _of_picture(file: Path) -> list[tuple[Kept, Any]]:
    try:
        picture = Image.open(file, formats=["PNG"])
        picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} is no PNG that can be read ({error}). Recipes are in PNG and JSON files.") from error
    text = picture.info.get(CHUNK)
    if not isinstance(text, str):
        raise NoRecipe(f"{file} holds no recipe: it was not made here, or another program saved it anew.")
    return [(parsed(text), picture)]


def _of_json(file: Path) -> list[tuple[Kept, Any]]:
    try:
        if file.stat().st_size > 64 * _LONGEST:
            raise ValueError("it is too long")
        value = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON that can be read: {error}.") from error
    entries = value if isinstance(value, list) else [value]
    found: list[tuple[Kept, Any]] = []
    for entry in entries:
        if not isinstance(entry, dict) or not (CHUNK in entry or "format" in entry):
            raise NoRecipe(f"{file} holds no recipe: one stands under {CHUNK!r} in what vd … --json prints.")
        text = entry.get("text")
        found.append((parsed(json.dumps(entry.get(CHUNK, entry))), text if isinstance(text, str) else None))
    return found
