"""Imports point one way, general rooms know no world, and what serves all modalities knows none by name."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from versatile_diffusion.bundled import DRAWN_WORLD

PACKAGE = "versatile_diffusion"
ROOT = Path(__file__).parents[2] / "src" / PACKAGE
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

ROOMS = (
    ("cli",),
    ("bench",),
    ("studio", "mcp", "voting", "compat", "comfyui"),
    ("serving",),
    ("engine",),
    ("worlds",),
    ("training",),
    ("evaluation",),
    ("data",),
    ("provenance",),
    ("applications",),
    ("pipeline",),
    ("model_presets",),
    ("checkpoints",),
    ("sampling",),
    ("modalities",),
    ("diffuser",),
    ("kernels",),
    ("context",),
    ("lean",),
    ("import_cache",),
    (
        "flows",
        "arrays",
        "fields",
        "validation",
        "devices",
        "files",
        "processes",
        "extras",
        "bundled",
        "lettering",
        "_moved",
    ),
)
"""From what people touch down to what everything may use: a room imports itself, and rooms below it."""

STILL_UPWARD = {}
"""What is still to be mended."""

RANK = {room: rank for rank, rooms in enumerate(ROOMS) for room in rooms}


def tree(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text())


def imports(module: str) -> Iterator[str]:
    """Modules of the package that a module imports, without the package's name."""
    here = [PACKAGE, *Path(module).parent.parts]
    for node in ast.walk(tree(module)):
        match node:
            case ast.Import():
                names = [alias.name for alias in node.names]
            case ast.ImportFrom():
                base = ".".join([*here[: len(here) - node.level + 1], node.module or ""]) if node.level else node.module
                names = [f"{base}.{alias.name}" for alias in node.names]
            case _:
                continue
        yield from (name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(f"{PACKAGE}."))


def room_of(name: str) -> str:
    return name.removesuffix(".py").replace("/", ".").partition(".")[0]


@pytest.mark.parametrize("module", [module for module in MODULES if not module.startswith("__")])
def test_a_room_imports_only_rooms_below_it(module: str) -> None:
    room = room_of(module)
    known = [name for name in imports(module) if room_of(name) in RANK]  # not the version
    upward = [name for name in known if room_of(name) != room and RANK[room_of(name)] <= RANK[room]]
    assert [name for name in upward if room_of(name) != STILL_UPWARD.get(module)] == []


TRAINING = ("own_data", "stages", "report", "samples", "tasks", "loop", "settings")
"""The rooms of training, likewise."""


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("training/")])
def test_a_room_of_training_imports_only_those_below_it(module: str) -> None:
    room = module.split("/")[1]
    assert room in (*TRAINING, "__init__.py")
    upward = TRAINING[: TRAINING.index(room)] if room in TRAINING else TRAINING
    assert [name for name in imports(module) if name.startswith(tuple(f"training.{each}." for each in upward))] == []


def test_every_room_is_known() -> None:
    assert {room_of(module) for module in MODULES if not module.startswith("__")} == set(RANK)


def spoken(module: str) -> Iterator[str]:
    """Every name and text in the code of a module, but what it says in comments and docstrings."""
    said = tree(module)
    documentation = {id(node.value) for node in ast.walk(said) if isinstance(node, ast.Expr)}
    for node in ast.walk(said):
        match node:
            case ast.Constant(value=str(text)) if id(node) not in documentation:
                yield text
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.alias(name=name):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.ImportFrom(module=str(name)):
                yield name
            case _:
                pass


def test_general_rooms_know_no_world() -> None:
    """A world is found by its name, so that another adds one folder. Two are named once: the default and the drawn."""
    worlds = [path.parent.name for path in (ROOT / "worlds").glob("*/__init__.py")]
    elsewhere = ("_moved", *(f"worlds/{world}/" for world in worlds))
    general = [module for module in MODULES if not module.startswith(elsewhere)]
    named = [(module, text) for module in general for text in spoken(module) if any(w in text.lower() for w in worlds)]
    assert [module for module, _ in named] == ["bundled.py", "bundled.py"]
    assert {name for _, name in named} | {DRAWN_WORLD} <= {*worlds}


def test_the_network_is_plain_pytorch() -> None:
    """Nothing of the package but itself: no kernel, which is applied from outside, and no modality."""
    network = [module for module in MODULES if module.startswith("diffuser/")]
    assert network and {room_of(name) for module in network for name in imports(module)} == {"diffuser"}


def test_kernels_know_no_network() -> None:
    kernels = [module for module in MODULES if module.startswith("kernels/")]
    assert kernels and {room_of(name) for module in kernels for name in imports(module)} == {"kernels"}


def test_gradio_is_for_the_studio_alone() -> None:
    users = {
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
        if name.partition(".")[0] == "gradio"
    }
    assert users and all(module.startswith("studio/") for module in users)


def test_public_classes_have_names_of_their_own() -> None:
    """A reader who meets a class by its name alone knows which one it is. compat's names are diffusers'."""
    places: dict[str, list[str]] = {}
    for module in MODULES:
        for node in tree(module).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not module.startswith("compat/"):
                places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}
