"""What there is to fill in, whatever it looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Painting:
    """A picture, and what was painted over it.

    Attributes:
        picture: a PNG.
        mask: a PNG of the same size, white where the picture is to be seen; None if all of it is.
    """

    picture: bytes
    mask: bytes | None = None


Values = Mapping[str, Any]
"""What was filled in, by the names of controls: texts, numbers, `Painting`, bytes of other files; None is nothing."""


@dataclass(frozen=True)
class Control:
    """Something to fill in.

    Attributes:
        name: its key in `Values`.
        label: its title.
        info: what it does, in a line.
        group: controls of one group are folded together under that title; "" is no group.
    """

    name: str
    label: str
    info: str = ""
    group: str = ""


@dataclass(frozen=True)
class Words(Control):
    """A text; `placeholder` is shown while it is empty."""

    placeholder: str = ""


@dataclass(frozen=True)
class Picture(Control):
    """A picture, as PNG."""


@dataclass(frozen=True)
class Painted(Control):
    """A picture that can be painted over: `Painting`."""


@dataclass(frozen=True)
class Share(Control):
    """A number from 0 to 1."""

    default: float = 0.5


@dataclass(frozen=True)
class Count(Control):
    """A whole number, 0 or more."""

    default: int = 0


@dataclass(frozen=True)
class Switch(Control):
    """Yes or no."""

    default: bool = False


@dataclass(frozen=True)
class Embeddings(Control):
    """A file of embeddings: its name and its bytes, as `NamedFile`."""


@dataclass(frozen=True)
class NamedFile:
    """A file as it was sent."""

    name: str
    content: bytes
