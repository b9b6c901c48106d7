"""What comes from outside is checked by pydantic, once, and what is wrong with it is said in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticKnownError

M = TypeVar("M", bound=BaseModel)

LONGEST = 1000
"""Characters of a message, at most; what users give may have millions."""

_WIDE = 10
"""From here on a range is told by the end that was passed, not by both."""


def shortened(text: str, longest: int = LONGEST) -> str:
    """Returns a text that is no longer than that, with its middle left out if need be."""
    half = longest // 2 - 3
    return text if len(text) <= longest else f"{text[:half]} […] {text[-half:]}"


class Strict(BaseModel):
    """Something that users or files give: it cannot be changed, and a field that is not known is an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)


def _plain(value: object, kind: Literal["int_type", "float_type"]) -> object:
    """A number of numpy or PyTorch as one of Python, anything else as it is; true and false are no numbers."""
    item: Any = getattr(value, "item", None)
    holds_one = callable(item) and getattr(value, "ndim", None) == 0 and not getattr(value, "is_meta", False)
    plain = item() if holds_one else value
    if isinstance(plain, bool):
        raise PydanticKnownError(kind)
    return plain


Integer = Annotated[int, BeforeValidator(lambda value: _plain(value, "int_type"))]
"""A whole number, which may also be one of numpy or PyTorch."""

Number = Annotated[float, BeforeValidator(lambda value: _plain(value, "float_type"))]
"""A number, which may also be one of numpy or PyTorch."""


def checked(model: type[M], values: Mapping[str, object]) -> M:
    """Makes a model of values, and checks them.

    Raises:
        ValueError: if a value is not usable; the message names it and says what would be.
    """
    try:
        return model(**values)
    except ValidationError as error:
        raise ValueError(explained(error, model)) from error


def explained(error: ValidationError, model: type[BaseModel]) -> str:
    """Returns the first thing that is wrong with the values of a model, in a sentence."""
    return shortened(_explained(error, model))


def _explained(error: ValidationError, model: type[BaseModel]) -> str:
    found = error.errors(include_url=False)
    first: Any = max(found, key=lambda one: len(one["loc"]))  # of a union the branch that came furthest
    name = ".".join(map(str, first["loc"])) or "it"
    match first["type"]:
        case "value_error":
            return str(first["ctx"]["error"])
        case "extra_forbidden":
            return f"There is no {name} here, only {', '.join(model.model_fields)}."
        case "missing":
            return f"{name} is missing: give it."
        case _:
            top = str(first["loc"][0]) if first["loc"] else ""
            return f"{name} {_wanted(first, model, top)}, got {first['input']!r:.80}.{_hint(model, top)}"


def _wanted(found: Mapping[str, Any], model: type[BaseModel], name: str) -> str:
    low, high = _bounds(model, name)
    low = found.get("ctx", {}).get("ge", low)
    match found["type"]:
        case "int_type" | "int_parsing" | "int_from_float":
            return "must be a whole number"
        case "float_type" | "float_parsing":
            return "must be a number"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "enum" | "literal_error":
            return f"must be one of {found['ctx']['expected']}"
        case "greater_than_equal" | "less_than_equal" | "finite_number" if (
            low is not None and high is not None and high <= _WIDE
        ):
            return f"must lie between {low:g} and {high:g}"
        case "greater_than_equal" | "finite_number" if low is not None:
            return f"must be {low:g} or more"
        case "less_than_equal":
            return f"must be {high:g} or less"
        case "less_than":
            return f"must be below {found['ctx']['lt']}"
        case "greater_than":
            return f"must be above {found['ctx']['gt']:g}"
        case "finite_number":
            return "must be a finite number"
        case _:
            return f"cannot be used ({found['msg']})"


def _bounds(model: type[BaseModel], name: str) -> tuple[float | None, float | None]:
    """The least and the largest value of a field, as far as it has such."""
    if name not in model.model_fields:
        return None, None
    constraints = model.model_fields[name].metadata
    low = next((one.ge for one in constraints if hasattr(one, "ge")), None)
    high = next((one.le for one in constraints if hasattr(one, "le")), None)
    return low, high


def _hint(model: type[BaseModel], name: str) -> str:
    field = model.model_fields.get(name)
    return f" {field.description}" if field is not None and field.description else ""
