"""What checks shapes and types of the package while the tests run.

jaxtyping checks every call. That takes longer than what a tiny model computes, so a function is checked only when the
types, shapes or values of what goes in or comes out are new to it: the checks find the same faults in half the time.
"""

import functools
import threading
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from inspect import isfunction
from types import CodeType
from typing import Any, Self, get_type_hints
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

Sort = Callable[[Any], Any]
"""Tells all of a value that an annotation can ask for, as something that can be hashed."""


def _sort(by_value: bool) -> Sort:
    """Returns what tells the sort of a value.

    A list or a tuple counts as its length, its first and its last item, a dictionary as its first entry; beartype
    looks at one item, too.

    Args:
        by_value: whether strings and integers are told apart, as Literal does; none does so for what has spaces.
    """
    ways: dict[type, Sort | None] = {}

    def sort(value: Any) -> Any:
        kind = type(value)
        try:
            way = ways[kind]
        except KeyError:
            way = ways[kind] = way_of(kind)
        return kind if way is None else way(value)

    def way_of(kind: type) -> Sort | None:
        if issubclass(kind, torch.Tensor | np.ndarray):
            return lambda value: (kind, value.dtype, value.shape)
        if by_value and kind in (str, int):
            return lambda value: kind if kind is str and " " in value else (kind, value)
        if kind in (list, tuple):
            return lambda value: (kind, len(value), sort(value[0]), sort(value[-1])) if value else (kind, 0)
        if kind is dict:
            return lambda value: (kind, *map(sort, next(iter(value.items())))) if value else (kind, 0)
        return None

    return sort


_BY_VALUE, _BY_TYPE = _sort(by_value=True), _sort(by_value=False)


def _sort_for(function: Callable[..., Any]) -> Sort:
    """Returns what tells apart all that the annotations of a function do."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception:  # names that are there for type checkers alone
        return _BY_VALUE
    return _BY_VALUE if "Literal" in repr(hints) else _BY_TYPE


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


class _Checks:
    """The checks of a function, which are prepared at its first call: most are never called in a process."""

    def __init__(self, function: Callable[..., Any], check: Callable[[Any], Any]) -> None:
        self.function, self.check = function, check
        self.whole = check(function)
        self.sort = _sort_for(function)
        self.seen: dict[Any, set[Any]] = {}
        self._made = threading.local()

    @functools.cached_property
    def _of_result(self) -> Callable[..., Any]:
        return self.check(functools.wraps(self.function)(lambda *args, **kwargs: self._made.value))

    def check_result(self, made: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Checks what the function has made of these arguments."""
        self._made.value = made
        self._of_result(*args, **kwargs)
        del self._made.value


def _checked_once(function: Callable[..., Any], check: Callable[[Any], Any]) -> Callable[..., Any]:
    checks: _Checks | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checks
        if checks is None:
            checks = _Checks(function, check)
        sort = checks.sort
        given = tuple(map(sort, args))
        if kwargs:
            given = given, *((name, sort(value)) for name, value in kwargs.items())
        known = checks.seen.get(given)
        if known is None:
            made = checks.whole(*args, **kwargs)
            checks.seen.setdefault(given, set()).add(sort(made))
            return made
        made = function(*args, **kwargs)
        if (found := sort(made)) not in known:
            checks.check_result(made, args, kwargs)
            known.add(found)
        return made

    return call


jaxtyping.jaxtyped = sparing(jaxtyping.jaxtyped)


def _code(self: Any, fullname: str) -> CodeType | None:
    """The code of a module of the package, whose byte code is told from that of a module that is not checked."""
    tagged = functools.partial(_import_hook._optimized_cache_from_source, self._typechecker.get_hash())
    with patch("importlib._bootstrap_external.cache_from_source", tagged):
        return SourceFileLoader.get_code(self, fullname)


# jaxtyping's loader tells them apart as long as a module is executed, so that the byte code of all libraries that it
# imports is not found either, and they are compiled anew.
_import_hook._JaxtypingLoader.exec_module = SourceFileLoader.exec_module
_import_hook._JaxtypingLoader.get_code = _code
