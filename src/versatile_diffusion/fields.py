"""What a field of options says of itself, besides its bounds and its description.

temperature: Annotated[float | None, Field(ge=0, le=100, description="…"), Flag("--temperature")] = None
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

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


@dataclass(frozen=True)
class FieldKind:
    """The type of a field, without what is around it, and the bounds that were found on the way.

    Attributes:
        type: such as int, an enumeration, or a tuple of numbers.
        optional: whether it may be None.
        least: the lower bound of a number.
        largest: its upper bound.
    """

    type: object
    optional: bool
    least: float | None
    largest: float | None

    @classmethod
    def of(cls, field: FieldInfo) -> FieldKind:
        """Returns the kind of a field, whatever annotations and None its type is wrapped in."""
        found, optional, marks = cast("object", field.annotation), False, [*field.metadata]
        while True:
            arguments = get_args(found)
            if get_origin(found) is Annotated:
                found, *more = arguments
                for mark in more:
                    marks += mark.metadata if isinstance(mark, FieldInfo) else [mark]
            elif get_origin(found) in (Union, UnionType) and NoneType in arguments and len(arguments) == 2:
                found, optional = next(one for one in arguments if one is not NoneType), True
            else:
                break
        least = next((mark.ge for mark in marks if hasattr(mark, "ge")), None)
        least = next((mark.gt for mark in marks if hasattr(mark, "gt")), least)
        largest = next((mark.le for mark in marks if hasattr(mark, "le")), None)
        return cls(found, optional, least, largest)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that are allowed; nothing where others are, too."""
        return _choices(self.type)

    @property
    def count(self) -> int:
        """How many numbers a tuple has; 0 of what is none."""
        return len(get_args(self.type)) if get_origin(self.type) is tuple else 0

    def numbers(self, text: str, what: str) -> list[float]:
        """Returns the numbers of a tuple that somebody wrote, such as 0.2,0.8.

        Args:
            text: the numbers with commas between them.
            what: they are, as a sentence, for messages.

        Raises:
            ValueError: if they are others, or not as many.
        """
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != self.count:
            raise ValueError(f"{what} Give {self.count} numbers with a comma between them, got {text!r:.80}.")
        return numbers


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


def _choices(kind: object) -> tuple[str, ...]:
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return tuple(str(one) for one in kind)
    return tuple(map(str, get_args(kind))) if get_origin(kind) is Literal else ()
