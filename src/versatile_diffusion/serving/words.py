"""What is wrong with a request, in words for who wrote the client: which field, what was sent, and what would do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from versatile_diffusion.engine.results import shortened

_MOST = 3
"""Things that are told at once."""
_SHOWN = 60
"""Characters of a value that are repeated."""
_BRANCHES = frozenset({"str", "int", "float", "bool", "dict", "list", "tuple", "Part", "constrained-str"})
"""Names that pydantic adds to a place for what a union was tried as."""


def in_words(error: ValidationError | RequestValidationError, model: type[BaseModel] | None = None) -> str:
    """Returns what is wrong where, on a screen at most.

    Args:
        error: of pydantic.
        model: what was asked for, whose fields say what they are for.
    """
    found: dict[tuple[str, ...], Mapping[str, Any]] = {}
    for one in error.errors():
        place = _place(one)
        if place not in found or len(one["loc"]) > len(found[place]["loc"]):  # of a union the branch that came furthest
            found[place] = one
    told = [_complaint(place, one, model) for place, one in _without_outer(found).items()]
    return shortened(" ".join(dict.fromkeys(told[:_MOST])))


def _without_outer(found: Mapping[tuple[str, ...], Mapping[str, Any]]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    """What is wrong, without the branches of a union that are of another type than what was sent."""
    return {
        place: one
        for place, one in found.items()
        if one["type"] not in _TYPES or not any(other[: len(place)] == place for other in found if other != place)
    }


def _place(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The field, without `body` and without branches of unions."""
    parts: Sequence[str | int] = found["loc"]
    own = 1 if found["type"] == "extra_forbidden" else 0  # whose last part is whatever the client called it
    outer, last = parts[: len(parts) - own], parts[len(parts) - own :]
    kept = [part for part in outer if isinstance(part, int) or (part.isidentifier() and part not in _BRANCHES)]
    return tuple(f"{part!s:.{_SHOWN}}" for part in (*kept, *last) if part != "body")


def _complaint(place: Sequence[str], found: Mapping[str, Any], model: type[BaseModel] | None) -> str:
    name, kind = ".".join(place) or "The body", found["type"]
    hint = _hint(place, model)
    if kind == "missing":
        return f"{name} is missing: send it.{hint}"
    if kind == "extra_forbidden":
        fields = [] if model is None or len(place) > 1 else list(model.model_fields)
        return f"There is no field {name}{', only ' if fields else ''}{', '.join(fields)}."
    if kind == "value_error":
        return str(found["ctx"]["error"])
    if kind == "json_invalid":
        return f"The body is no JSON: {found['ctx']['error']}."
    return f"{name} {_wanted(kind, found)}, got {_shown(found['input'])}.{hint}"


_TYPES: Mapping[str, str] = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text in quotes",
    "string_unicode": "must be a text in UTF-8",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object of JSON",
    "model_type": "must be an object of JSON",
    "model_attributes_type": "must be an object of JSON",
    "string_pattern_mismatch": "is not of the form that it has",
}
_BOUNDS: Mapping[str, tuple[str, str]] = {
    "greater_than_equal": ("must be {} or more", "ge"),
    "less_than_equal": ("must be {} or less", "le"),
    "greater_than": ("must be above {}", "gt"),
    "less_than": ("must be below {}", "lt"),
    "string_too_short": ("must have {} characters at least", "min_length"),
    "string_too_long": ("must have {} characters at most", "max_length"),
    "too_short": ("must hold {} at least", "min_length"),
    "too_long": ("must hold {} at most", "max_length"),
    "literal_error": ("must be {}", "expected"),
    "enum": ("must be {}", "expected"),
}


def _wanted(kind: str, found: Mapping[str, Any]) -> str:
    if kind in _TYPES:
        return _TYPES[kind]
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return words.format(found["ctx"][bound])
    return f"cannot be used ({found['msg']:.200})"


def _hint(place: Sequence[str], model: type[BaseModel] | None) -> str:
    """What the field says of itself."""
    field = None if model is None or len(place) != 1 else model.model_fields.get(place[0])
    return f" {field.description}" if field is not None and field.description else ""


def _shown(value: object) -> str:
    """A value as JSON has it, as far as it fits."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
