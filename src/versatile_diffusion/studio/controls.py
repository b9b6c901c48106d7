"""What there is to fill in, whatever it looks like, and the values that people fill in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MaskedImage:
    """An image, and what was painted over it.

    Attributes:
        image: a PNG.
        mask: a PNG of the same size, white where the image is to be seen; None if all of it is.
    """

    image: bytes
    mask: bytes | None = None


@dataclass(frozen=True)
class NamedFile:
    """A file as it was sent: its name, and what is in it."""

    name: str
    content: bytes


Values = Mapping[str, object]
"""What was filled in, by the names of controls.

A value is a text, a number, a bool, the bytes of an image as PNG, a `MaskedImage` or a `NamedFile`; None is nothing.
"""


class MissingInput(ValueError):
    """Something was not filled in; the message says what to do."""


def text_in(values: Values, name: str) -> str:
    """Returns a text that was filled in, without the spaces around it; "" if there is none."""
    value = values.get(name)
    return value.strip() if isinstance(value, str) else ""


def number_in(values: Values, name: str) -> float:
    """Returns a number that was filled in.

    Raises:
        MissingInput: if there is none.
    """
    value = values.get(name)
    if not isinstance(value, int | float):
        raise MissingInput(f"The number {name} is missing: fill it in.")
    return value


@dataclass(frozen=True)
class Control:
    """Something to fill in.

    Attributes:
        name: its key in `Values`, and in the forms that the history keeps.
        label: its title.
        info: what it does, in a line.
        group: controls of one group are folded together under that title; "" is no group.
    """

    name: str
    label: str
    info: str = ""
    group: str = ""

    @property
    def initial(self) -> object:
        """The value before anything is filled in."""
        return None


@dataclass(frozen=True)
class TextControl(Control):
    """A text; `placeholder` is shown while it is empty."""

    placeholder: str = ""


@dataclass(frozen=True)
class ImageControl(Control):
    """An image, as PNG."""


@dataclass(frozen=True)
class MaskedImageControl(Control):
    """An image that can be painted over, as `MaskedImage`."""


@dataclass(frozen=True)
class NumberControl(Control):
    """A number.

    Attributes:
        default: the value at first; None leaves it empty, which is allowed then.
        minimum: the least value; None if there is none.
        maximum: the largest value; None if there is none.
        step: how far apart values lie that a slider can be moved to.
        whole: whether only whole numbers will do.
    """

    default: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    step: float = 0.01
    whole: bool = False

    @property
    def initial(self) -> object:
        """The default."""
        return self.default


@dataclass(frozen=True)
class ShareControl(NumberControl):
    """A number from 0 to 1."""

    default: float | None = 0.5
    minimum: float | None = 0
    maximum: float | None = 1


@dataclass(frozen=True)
class ChoiceControl(Control):
    """One of several words.

    Attributes:
        choices: the words.
        default: the one that is chosen at first.
    """

    choices: tuple[str, ...] = ()
    default: str = ""

    @property
    def initial(self) -> object:
        """The default."""
        return self.default


@dataclass(frozen=True)
class SwitchControl(Control):
    """Yes or no; `default` is what it is at first."""

    default: bool = False

    @property
    def initial(self) -> object:
        """The default."""
        return self.default


@dataclass(frozen=True)
class FileControl(Control):
    """A file, as `NamedFile`; `suffixes` says of which kinds."""

    suffixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AudioControl(FileControl):
    """A sound, from a file or a microphone, as `NamedFile`."""
