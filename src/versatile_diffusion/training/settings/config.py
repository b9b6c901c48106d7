"""Settings of a run: a typed recipe, changed by a YAML file and by "key=value", and told back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TypeGuard, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from versatile_diffusion.files import require_file

R = TypeVar("R")

_KINDS = {"int_type": "a whole number", "int_from_float": "a whole number", "float_type": "a number"}
"""What pydantic's errors of these types ask for, in our words."""


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: 1e-3 is a number, and "none" is nothing."""


for tag, pattern, first in (
    ("tag:yaml.org,2002:float", r"[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$", "-+0123456789"),
    ("tag:yaml.org,2002:null", r"(none|None)$", "nN"),
):
    _Loader.add_implicit_resolver(tag, re.compile(pattern), list(first))  # pyright: ignore[reportUnknownMemberType] - PyYAML has no types


def read_settings(file: Path) -> dict[str, object]:
    """Reads the settings that a YAML file holds.

    Raises:
        ValueError: if it is no YAML, or holds anything but settings by their names.
        OSError: if it cannot be read.
    """
    require_file(file)
    try:
        found: object = yaml.load(file.read_text(encoding="utf-8"), _Loader)  # a SafeLoader: it makes no objects
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # of which the last two are of what values hold
        raise ValueError(f"{file} is no YAML: {' '.join(str(error).split()):.300}.") from error
    return _named(found if found is not None else {}, str(file))


def parse_settings(settings: Sequence[str]) -> dict[str, object]:
    """Reads settings that are written as "key=value" or "stage.key=value"; of equal keys the last counts.

    Raises:
        ValueError: if one is written otherwise.
    """
    found: dict[str, object] = {}
    for setting in settings:
        path, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"A setting is written as key=value, got {setting!r:.80}.")
        try:
            parsed: object = yaml.load(value, _Loader)
        except (yaml.YAMLError, ValueError, RecursionError):
            parsed = value
        for key in reversed(path.split(".")):
            parsed = {key: parsed}
        found = joined(found, _named(parsed, setting))
    return found


def with_settings(recipe: R, *settings: Mapping[str, object] | Sequence[str]) -> R:
    """Returns a recipe with some values changed; later settings count more than earlier ones.

    Args:
        recipe: a dataclass whose fields are values, dataclasses or mappings.
        settings: new values by the names of fields, nested as the recipe is, or as `parse_settings` reads them.

    Raises:
        ValueError: if there is no such key, or a value is not of its type; every mistake is named.
    """
    changes: dict[str, object] = {}
    for more in settings:
        changes = joined(changes, more if isinstance(more, Mapping) else parse_settings(more))
    mistakes: list[str] = []
    changed = _changed(recipe, changes, (), mistakes)
    if mistakes:
        raise ValueError(" ".join(mistakes))
    assert isinstance(changed, type(recipe))
    return changed


def renamed(settings: Mapping[str, object], names: Mapping[str, str]) -> tuple[dict[str, object], list[str]]:
    """Returns settings under the names of today, and a note for each that came under a former name.

    Args:
        settings: by their names.
        names: the name of today by the former one.
    """
    notes = [f"{old} is called {new} now." for old, new in names.items() if old in settings]
    found: dict[str, object] = {}
    for name, value in settings.items():
        found = joined(found, {names.get(name, name): value})
    return found, notes


def differences(recipe: object, default: object, prefix: str = "") -> Iterator[str]:
    """Yields the settings, as "key=value", that make the recipe of the default one, as far as numbers and words do."""
    before = _parts(default)
    for name, new in _parts(recipe).items():
        old = before.get(name)
        if _parts(new):
            yield from differences(new, old, f"{prefix}{name}.")
        elif new != old and isinstance(new, int | float | str | None):
            yield f"{prefix}{name}={'none' if new is None else new}"


def _is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    return isinstance(value, Mapping)


def _parts(value: object) -> dict[str, object]:
    """The fields of a dataclass, or the values of a mapping, by their names; anything else has none."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return _named(value, "") if _is_mapping(value) else {}


def _changed(part: object, changes: Mapping[str, object], path: tuple[str, ...], mistakes: list[str]) -> object:
    """A part with some of its values changed. Each part is checked by its own type, which a subclass keeps."""
    values = _parts(part)
    for name, change in changes.items():
        where, old = ".".join((*path, name)), values.get(name)
        if name not in values:
            mistakes.append(f"{where}: there is no {name!r} here, only {', '.join(values)}.")
        elif _parts(old) and not _is_mapping(change):
            mistakes.append(f"{where} has parts: set one of them, {', '.join(_parts(old))}.")
        elif _parts(old):
            values[name] = _changed(old, _named(change, where), (*path, name), mistakes)
        elif isinstance(change, bool) and isinstance(old, int | float) and not isinstance(old, bool):
            mistakes.append(f"{where} must be a {'whole ' * isinstance(old, int)}number, got {change!r}.")
        else:
            values[name] = change
    if mistakes or _is_mapping(part):
        return values if _is_mapping(part) else part
    try:
        checked: object = TypeAdapter(type(part)).validate_python(values)
    except ValidationError as error:
        mistakes.extend(_explained(error, path))
        return part
    return checked


def joined(first: Mapping[str, object], second: Mapping[str, object]) -> dict[str, object]:
    """Returns settings of both; of equal names the second counts, in parts of settings as well."""
    found = dict(first)
    for name, new in second.items():
        old = found.get(name)
        both = _is_mapping(old) and _is_mapping(new)
        found[name] = joined(_parts(old), _parts(new)) if both else new
    return found


def _named(value: object, where: str) -> dict[str, object]:
    """Checks that a value holds settings by their names."""
    try:
        return TypeAdapter(dict[str, object]).validate_python(value)
    except ValidationError:
        raise ValueError(f"{where} must hold settings by their names, such as kl: {{steps: 5000}}.") from None


def _explained(error: ValidationError, path: tuple[str, ...]) -> Iterator[str]:
    for mistake in error.errors():
        where, given = ".".join([*path, *map(str, mistake["loc"])]), mistake["input"]
        if mistake["type"] in _KINDS:
            yield f"{where} must be {_KINDS[mistake['type']]}, got {given!r:.80}."
        else:
            yield f"{where}: {mistake['msg'][0].lower()}{mistake['msg'][1:]}, got {given!r:.80}."
