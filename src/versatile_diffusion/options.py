"""Options that are declared once: their bounds, what they mean, and how the command line calls them.

A field of `Options` says all of it, and Python, the command line, HTTP and records read it there:

    temperature: Annotated[float | None, Field(ge=0, le=100, description="…"), Flag("--temperature")] = None
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

from pydantic import ConfigDict
from pydantic.fields import FieldInfo

from versatile_diffusion.validation import Strict, checked

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Flag:
    """How the command line asks for a field; the field's description is the help.

    Attributes:
        name: such as "--steps", where it is not --its-name.
        metavar: what stands for the value in the help, such as "FILE"; by default the field's type.
    """

    name: str | None = None
    metavar: str | None = None


@dataclass(frozen=True)
class DataOf:
    """Marks a field whose values are data of a modality: what its codec reads, or an upload, or an input of a record.

    Attributes:
        modality: its name.
    """

    modality: str


class Options(Strict):
    """Options that are checked when they are given, and never change afterwards."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @classmethod
    def checked(cls, options: Mapping[str, object]) -> Self:
        """The options of these names.

        Raises:
            ValueError: if a value is out of range or of another type, or there is no option of a name; one sentence
                says which and what would do.
        """
        return checked(cls, options)

    @property
    def given(self) -> dict[str, object]:
        """The options that were given and are not None, by their names."""
        return {name: getattr(self, name) for name in self.model_fields_set if getattr(self, name) is not None}

    @classmethod
    def flags(cls) -> dict[str, Flag]:
        """How the command line asks for each field that it does ask for."""
        found = {name: metadata_of(field, Flag) for name, field in cls.model_fields.items()}
        return {name: flag for name, flag in found.items() if flag is not None}

    @classmethod
    def data_fields(cls) -> dict[str, str]:
        """The fields whose values are data of a modality, and the name of that modality."""
        found = {name: metadata_of(field, DataOf) for name, field in cls.model_fields.items()}
        return {name: mark.modality for name, mark in found.items() if mark is not None}


def metadata_of(field: FieldInfo, kind: type[Mark]) -> Mark | None:
    """What a field says of itself in an object of that class, if it does."""
    return next((mark for mark in field.metadata if isinstance(mark, kind)), None)
