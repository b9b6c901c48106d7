"""Options of commands that are declared elsewhere, once: flag, bounds and help derive from the fields of a model.

A field says its bounds and its description; its `Flag` says how it is called where that is not --its-name.
"""
# pyright: strict

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, cast, get_args, get_origin

import typer
from pydantic import BaseModel, create_model
from pydantic.fields import FieldInfo
from typer.models import OptionInfo

from versatile_diffusion.fields import flag, flag_name
from versatile_diffusion.modalities.registry import modality_names, modality_spec
from versatile_diffusion.modalities.spec import DecodingOptions
from versatile_diffusion.validation import checked

M = TypeVar("M", bound=BaseModel)

_TELLING = 65536
"""Bounds up to this are shown in the help; wider ones only keep out what is no number of sense."""


@dataclass(frozen=True)
class Taken:
    """How a command takes a group of options: `Annotated[Sampling, Taken(without=("strength",))]`.

    Attributes:
        without: fields that it does not take.
        instead: defaults of its own, by the names of fields.
    """

    without: tuple[str, ...] = ()
    instead: Mapping[str, object] = field(default_factory=dict[str, object])


@dataclass(frozen=True)
class OfEveryModality:
    """Marks the options of decoding of all modalities that are known, for a command that makes any of them."""


@dataclass(frozen=True)
class EachOtherModality:
    """Marks a field of a group that holds what an option of its own gives for each modality without one in the group.

    Attributes:
        flag: of the option, with {} for the name of the modality.
        metavar: what stands for the value in the help.
        help: of the options.
    """

    flag: str
    metavar: str
    help: str

    def options(self, owned: Collection[str]) -> dict[str, OptionInfo]:
        """Returns the options of the modalities that are not owned, by their names, as far as there can be such."""
        return {
            name: typer.Option(self.flag.format(name), metavar=self.metavar, help=self.help)
            for name in modality_names()
            if name not in owned and name.isidentifier()
        }


class OptionGroup(ABC):
    """Options that a command takes as one argument."""

    @property
    @abstractmethod
    def parameters(self) -> Iterator[inspect.Parameter]:
        """A parameter of the command for each of them."""

    @abstractmethod
    def made(self, values: Mapping[str, object]) -> object:
        """Returns the argument that holds what the user gave, by the names of the options.

        Raises:
            ValueError: if a value is not usable; the message names the option.
        """


@dataclass(frozen=True)
class ModelGroup(OptionGroup, Generic[M]):
    """The fields of a model as options of a command, each None if it is left out.

    Attributes:
        model: what they are fields of.
        taken: how the command takes them.
    """

    model: type[M]
    taken: Taken = Taken()

    @property
    def names(self) -> list[str]:
        """The fields that the command takes."""
        return [name for name in self.model.model_fields if name not in self.taken.without]

    @property
    def parameters(self) -> Iterator[inspect.Parameter]:
        """See `OptionGroup.parameters`."""
        for name in self.names:
            annotation = option(self.model, name, self.taken.instead.get(name))
            yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)

    def made(self, values: Mapping[str, object]) -> M:
        """See `OptionGroup.made`: the model of what the user gave; see `given`."""
        asked = {name: values[name] for name in self.names if values[name] not in (None, [])}
        for name, value in asked.items():
            if isinstance(value, str) and get_origin(_kind(self.model.model_fields[name])[0]) is tuple:
                asked[name] = self._range(name, value)
        return checked(self.model, {**self.taken.instead, **asked})

    def _range(self, name: str, text: str) -> tuple[float, ...]:
        """The two numbers of a range."""
        called, told = flag_name(self.model, name), self.model.model_fields[name].description
        range_ = numbers(text, called)
        try:
            checked(self.model, {name: range_})
        except ValueError as error:
            raise ValueError(f"{called} takes two numbers, the smaller first, got {text!r}. {told}") from error
        return range_


def group_of(annotation: object) -> ModelGroup[BaseModel] | None:
    """Returns the options that a parameter of a command stands for, if its type is a model of them."""
    kind, *marks = get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return None
    taken = next((mark for mark in marks if isinstance(mark, Taken)), Taken())
    if any(isinstance(mark, OfEveryModality) for mark in marks):
        kind = every_decoding()
    return ModelGroup(kind, taken)


def every_decoding() -> type[DecodingOptions]:
    """Returns the options of decoding of all modalities that are known; the first says what an option of several is."""
    fields: dict[str, tuple[object, FieldInfo]] = {}
    for name in modality_names():
        try:
            decoding = modality_spec(name).decoding
        except ValueError:  # a package that is broken: whoever needs it is told
            continue
        for option_name, info in decoding.model_fields.items():
            fields.setdefault(option_name, (info.annotation, info))
    made: type[DecodingOptions] = cast(Any, create_model)("EveryDecoding", __base__=DecodingOptions, **fields)
    return made  # pydantic's types know no fields that come as a dictionary


def option(model: type[BaseModel], name: str, default: object = None) -> object:
    """Returns the annotation of a command's parameter for a field; None means that it is left out.

    Args:
        model: what it is a field of.
        name: of the field.
        default: that the command has; by default the field's.
    """
    info = model.model_fields[name]
    kind, _ = _kind(info)
    shown = info.default if default is None else default
    telling = option_info(model, name, False if shown is None or info.is_required() else str(shown))
    if flag(model, name).many:
        return Annotated[list[str] | None, telling]
    simple = kind if isinstance(kind, type) and (kind in (int, float, bool) or issubclass(kind, Enum)) else str
    return Annotated[simple | None, telling]


def option_info(model: type[BaseModel], name: str, show_default: bool | str = True) -> OptionInfo:
    """Returns what typer is told of a field: its flag, its bounds and its help."""
    info = model.model_fields[name]
    kind, marks = _kind(info)
    low, high = (next((getattr(mark, end) for mark in marks if hasattr(mark, end)), None) for end in ("ge", "le"))
    numeric = kind is int or kind is float
    found: OptionInfo = typer.Option(
        flag_name(model, name),
        min=low if numeric and low is not None and abs(low) <= _TELLING else None,
        max=high if numeric and high is not None and abs(high) <= _TELLING else None,
        help=info.description,
        metavar=flag(model, name).metavar,
        rich_help_panel=flag(model, name).panel,
        show_default=show_default,
    )
    return found


def given(options: BaseModel) -> dict[str, object]:
    """Returns the options that were given and are not None, by their names."""
    values = {name: getattr(options, name) for name in options.model_fields_set}
    return {name: value for name, value in values.items() if value is not None}


def numbers(text: str, flag: str) -> tuple[float, ...]:
    """Returns numbers with commas between them.

    Raises:
        ValueError: if they are something else.
    """
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError as error:
        raise ValueError(f"{flag} takes numbers with commas between them, such as 0.2,0.8, got {text!r}.") from error


def _kind(info: FieldInfo) -> tuple[object, list[object]]:
    """The type of a field, where it is not None, and what is said of it."""
    kind, marks = info.annotation, list[object](info.metadata)
    while get_origin(kind) in (Annotated, Union, UnionType):
        if get_origin(kind) is Annotated:
            kind, *more = get_args(kind)
            marks += [inner for mark in more for inner in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]
        else:
            kinds = [each for each in get_args(kind) if each is not NoneType]
            if len(kinds) > 1:
                return object, marks
            (kind,) = kinds
    return kind, marks
