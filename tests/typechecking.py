"""What checks shapes and types of the package while the tests run.

jaxtyping checks every call. That takes longer than what a tiny model computes, so a function is checked only when the
types, shapes or values of what goes in or comes out are new to it: the checks find the same faults in half the time.
"""

import functools
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from inspect import isfunction
from types import CodeType
from typing import Any, Self
from unittest.mock import patch

import jaxtyping
import numpy as np
import torch
from beartype import BeartypeConf, BeartypeHintOverrides, beartype
from jaxtyping import _import_hook

typechecker = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int will do for a float, as it does for pyright
        # What decorates methods one by one does not know Self.
        hint_overrides=BeartypeHintOverrides({Self: Any}),  # pyright: ignore[reportCallIssue]
    )
)

_BY_VALUE = (str, int, type(None))
"""What annotations may tell apart by value, as Literal does; none does so for what has spaces, such as captions."""


def sort_of(value: Any) -> Any:
    """All of a value that an annotation can ask for, as something that can be hashed.

    A list or a tuple counts as its length, its first and its last item, a dictionary as its first entry; beartype
    looks at one item, too.
    """
    kind = type(value)
    if isinstance(value, torch.Tensor | np.ndarray):
        return kind, value.dtype, value.shape
    if kind in _BY_VALUE and not (kind is str and " " in value):
        return kind, value
    if kind in (list, tuple):
        return kind, len(value), *(map(sort_of, (value[0], value[-1])) if value else ())
    if kind is dict:
        return kind, *(map(sort_of, next(iter(value.items()))) if value else ())
    return kind


def sparing(jaxtyped: Callable[..., Any]) -> Callable[..., Any]:
    """jaxtyping's decorator, made to check a function only for what is new to it."""

    @functools.wraps(jaxtyped)
    def decorator(function: Any = None, **options: Any) -> Any:
        if function is None:
            return lambda function: decorator(function, **options)
        if not isfunction(function):
            return jaxtyped(function, **options)
        return _checked_once(function, lambda each: jaxtyped(each, **options))

    return decorator


def _checked_once(function: Callable[..., Any], check: Callable[[Any], Any]) -> Callable[..., Any]:
    prepared = functools.cache(lambda: check(function))  # at the first call, since most are never called in a process
    seen: dict[Any, set[Any]] = {}

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        given = tuple(map(sort_of, args)), *((name, sort_of(value)) for name, value in kwargs.items())
        if given not in seen:
            made = prepared()(*args, **kwargs)
            seen.setdefault(given, set()).add(sort_of(made))
            return made
        made = function(*args, **kwargs)
        if (sort := sort_of(made)) not in seen[given]:
            check(functools.wraps(function)(lambda *args, **kwargs: made))(*args, **kwargs)
            seen[given].add(sort)
        return made

    return call


jaxtyping.jaxtyped = sparing(jaxtyping.jaxtyped)


def _code(loader: Any, name: str) -> CodeType | None:
    """The code of a module of the package, whose byte code is told from that of a module that is not checked."""
    tagged = functools.partial(_import_hook._optimized_cache_from_source, loader._typechecker.get_hash())
    with patch("importlib._bootstrap_external.cache_from_source", tagged):
        return SourceFileLoader.get_code(loader, name)


# jaxtyping's loader tells them apart as long as a module is executed, so that the byte code of all libraries that it
# imports is not found either, and they are compiled anew.
_import_hook._JaxtypingLoader.exec_module = SourceFileLoader.exec_module
_import_hook._JaxtypingLoader.get_code = _code
