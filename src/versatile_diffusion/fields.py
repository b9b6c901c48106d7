"""What a field of options says of itself, besides its bounds and its description.

temperature: Annotated[float | None, Field(ge=0, le=100, description="…"), Flag("--temperature")] = None
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Flag:
    """How the command line asks for a field, where that is not --its-name; the field's description is the help.

    Attributes:
        name: such as "--steps".
        metavar: what stands for the value in the help, such as "FILE".
        panel: of the help, under which the field stands with others of its kind.
        many: whether several values may be given, which the field then gets as a list.
    """

    name: str | None = None
    metavar: str | None = None
    panel: str | None = None
    many: bool = False


@dataclass(frozen=True)
class DataOf:
    """Marks a field whose values are data of a modality: what its codec reads, an upload, or an input of a record.

    Attributes:
        modality: its name.
    """

    modality: str


def flag(model: type[BaseModel], name: str) -> Flag:
    """Returns how the command line asks for a field of a model."""
    return _mark(model, name, Flag) or Flag()


def flag_name(model: type[BaseModel], name: str) -> str:
    """Returns how the command line calls a field, such as "--steps"."""
    return flag(model, name).name or f"--{name.replace('_', '-')}"


def data_fields(model: type[BaseModel]) -> dict[str, str]:
    """Returns the fields of a model whose values are data of a modality, and the name of that modality."""
    marks = {name: _mark(model, name, DataOf) for name in model.model_fields}
    return {name: mark.modality for name, mark in marks.items() if mark is not None}


def _mark(model: type[BaseModel], name: str, kind: type[Mark]) -> Mark | None:
    return next((mark for mark in model.model_fields[name].metadata if isinstance(mark, kind)), None)
