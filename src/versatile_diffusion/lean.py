"""Libraries without what they import and we never call, so that a command answers at once.

diffusers, for one, imports all of its transformers, and the compiler of PyTorch, to give us an autoencoder. Here such
imports are put off until something is asked of them: the code of a *bare* package runs when it is asked for more than
its submodules. Whoever uses these modules gets what they would have got. What was imported before, or is not where it
is expected, is imported as ever.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property, wraps
from importlib import import_module, metadata
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader, MetaPathFinder
else:
    Loader = MetaPathFinder = object  # importlib.abc imports a dozen modules, and every command would wait for them

BARE = frozenset(
    {
        "diffusers.hooks",
        "diffusers.models.autoencoders",
        "diffusers.models.transformers",
        "diffusers.models.unets",
        "scipy.integrate",
        "scipy.stats",
        "transformers.generation.continuous_batching",
        "transformers.models",
    }
)
"""Packages that import a great deal, of which a submodule or nothing is needed."""
UNUSED: Mapping[str, tuple[str, ...]] = {
    "diffusers.utils.import_utils": ("peft", "torchao"),
    "transformers.utils.import_utils": ("peft", "scipy", "torch_distributed", "torch_flex_attn", "torchao"),
}
"""By the module that tells whether they are there, libraries that others then import, and that we use without them."""
COMPILER = "torch._dynamo"
_TRACING = f"{COMPILER}._trace_wrapped_higher_order_op"
_MARKING, _ALSO_MARKING = "diffusers.utils.torch_utils", ("transformers.integrations.", "transformers.masking_utils")
"""A module, and what the names of others begin with, that load the compiler to mark for it what we do not use."""

Function = Callable[..., Any]
Decorator = Callable[[Function], Function]


def install(own_process: bool = False) -> None:
    """Puts these imports off, from now on.

    Args:
        own_process: whether all that runs in this process is ours. Then more is left out: diffusers and transformers
            are told that there are none of the `UNUSED` libraries, and mark nothing for the compiler.
    """
    finder = next((finder for finder in sys.meta_path if isinstance(finder, LeanFinder)), None)
    if finder is None:
        finder = LeanFinder()
        sys.meta_path.insert(0, finder)
    finder.own_process |= own_process


class LeanFinder(MetaPathFinder):
    """Finds the modules named here, whose loaders put their code off or change what it finds.

    Attributes:
        own_process: see `install`.
    """

    own_process = False

    def find_spec(
        self, fullname: str, path: Iterable[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder.find_spec`."""
        lean = self._loader(fullname)
        spec = None if lean is None else PathFinder.find_spec(fullname, None if path is None else list(path), target)
        if lean is None or spec is None or spec.loader is None:
            return None
        spec.loader = lean(spec.loader)
        return spec

    def _loader(self, name: str) -> type[_LeanLoader] | None:
        """What takes the place of the loader of a module, if anything does."""
        if name in BARE:
            return _BareLoader
        if name == _MARKING or (name.startswith(_ALSO_MARKING) and self.own_process):
            return _WithoutCompiler if COMPILER not in sys.modules else None
        if name in UNUSED and self.own_process:
            return _WithoutUnused
        if name == "torch.compiler" and self.own_process:
            return _MarkingLater
        return None


class _LeanLoader(Loader):
    """Loads a module by another loader, but for something."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)


class _BareLoader(_LeanLoader):
    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _BarePackage


class _BarePackage(ModuleType):
    """A package whose code has not run yet."""

    def __getattr__(self, name: str) -> object:
        spec = self.__spec__
        if not name.startswith("__") and spec is not None and isinstance(spec.loader, _BareLoader):
            spec.loader = spec.loader.loader  # also for what its own code asks of it
            spec.loader.exec_module(self)
        elif sys.modules[self.__name__] is self:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(sys.modules[self.__name__], name)  # its code may have put another in its place


class _WithoutCompiler(_LeanLoader):
    """Loads a module whose marks for the compiler are left out. Whether something is compiled is told all the same."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules |= {COMPILER: _NoCompiler(COMPILER), _TRACING: _NoTracing(_TRACING)}
        try:
            self.loader.exec_module(module)
        finally:
            del sys.modules[COMPILER], sys.modules[_TRACING]
        asks: Function | None = getattr(module, "is_compiled_module", None)
        if asks is None:
            return

        def is_compiled_module(module: object) -> bool:
            return COMPILER in sys.modules and asks(module)

        vars(module)["is_compiled_module"] = is_compiled_module


class _NoCompiler(ModuleType):
    """In the place of the compiler: its marks leave things as they are."""

    def __getattr__(self, name: str) -> Decorator:
        return _unmarked


class _NoTracing(ModuleType):
    """In the place of a part of the compiler: it is loaded when somebody makes an object of its classes."""

    def __getattr__(self, name: str) -> Function:
        def make(*arguments: object) -> object:
            return getattr(import_module(_TRACING), name)(*arguments)

        return make


class _WithoutUnused(_LeanLoader):
    """Loads a module that tells what is installed, as where some libraries are not."""

    def exec_module(self, module: ModuleType) -> None:
        count = metadata.packages_distributions
        metadata.packages_distributions = _Distributions
        try:
            self.loader.exec_module(module)
        finally:
            metadata.packages_distributions = count
        functions = vars(module)
        functions |= {f"is_{name}_available": _no for name in UNUSED[module.__name__]}
        if "define_import_structure" in functions:
            from versatile_diffusion.import_cache import kept  # needed by few processes, and they have what it imports

            functions["define_import_structure"] = kept(functions["define_import_structure"])


class _Distributions(Mapping[str, list[str]]):
    """What `packages_distributions` returns, found once it is asked for: all files of all packages are listed."""

    @cached_property
    def _found(self) -> Mapping[str, list[str]]:
        return metadata.packages_distributions()

    def __getitem__(self, package: str) -> list[str]:
        return self._found[package]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


class _MarkingLater(_LeanLoader):
    """Loads `torch.compiler`, whose decorators load the compiler to mark a function for it."""

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)
        functions = vars(module)
        allow: Decorator = functions["allow_in_graph"]

        def allow_in_graph(function: Function) -> Function:
            return allow(function) if COMPILER in sys.modules else function

        functions |= {"allow_in_graph": allow_in_graph, "disable": _disabled_later(functions["disable"])}


def _disabled_later(disable: Function) -> Function:
    """`torch.compiler.disable`, as a decorator that does its work once something else has loaded the compiler."""

    def decorate(function: Function | None = None, *how: object, **options: object) -> Function:
        if function is None:
            return lambda given: decorate(given, *how, **options)  # pyright: ignore[reportUnknownLambdaType, reportUnknownVariableType, reportUnknownArgumentType] - any function

        @wraps(function)
        def call(*arguments: object, **named: object) -> object:
            known: Function = disable(function, *how, **options) if COMPILER in sys.modules else function
            return known(*arguments, **named)

        return call

    return decorate


def _unmarked(function: Function) -> Function:
    return function


def _no(*_: object) -> bool:
    return False
