"""Modalities are found by their names, and nothing of their models is imported for it."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from versatile_diffusion.fields import data_fields, flag
from versatile_diffusion.modalities import registry
from versatile_diffusion.modalities.registry import modality_names, modality_spec, register
from versatile_diffusion.modalities.spec import ModalitySpec
from versatile_diffusion.modalities.text_spec import TEXT, TextCodec

SMELL = ModalitySpec("smell", TextCodec(), "nowhere:Smell")


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is known to it alone."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


def install(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A package that brings a modality."""
    point = EntryPoint(name, value, registry.GROUP)
    monkeypatch.setattr(registry, "_installed", lambda: {name: point})


def test_the_modalities_of_this_package_are_known() -> None:
    assert modality_names() == ("image", "text", "sound")
    assert [modality_spec(name).load().name for name in modality_names()] == ["image", "text", "sound"]


def test_one_is_registered() -> None:
    register(SMELL)
    register(SMELL)  # again does no harm
    assert modality_spec("smell") is SMELL
    assert modality_names() == ("image", "text", "sound", "smell")


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="another modality 'text'"):
        register(ModalitySpec("text", TextCodec(), "nowhere:Text"))


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no modality 'taste', only image, text, sound"):
        modality_spec("taste")


def test_an_installed_package_brings_one(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "smell", f"{__name__}:SMELL")
    assert modality_names() == ("image", "text", "sound", "smell")
    assert modality_spec("smell").name == "smell"


@pytest.mark.parametrize(
    ("value", "message"),
    [("no_such_package:X", "cannot be imported .ModuleNotFoundError"), (f"{__name__}:TEXT", "it is not")],
)
def test_a_package_that_is_broken_is_named(monkeypatch: pytest.MonkeyPatch, value: str, message: str) -> None:
    install(monkeypatch, "smell", value)
    with pytest.raises(ValueError, match=message):
        modality_spec("smell")
    assert modality_spec("text") is TEXT  # the others are found all the same


def test_an_implementation_that_is_no_modality_is_refused() -> None:
    with pytest.raises(TypeError, match="no modality of the name 'smell'"):
        ModalitySpec("smell", TextCodec(), "versatile_diffusion.modalities.text:TextModality").load()


def test_options_are_checked() -> None:
    options = TEXT.decoding_options({"temperature": 0, "top_k": 3, "top_p": None})
    assert options.given == {"temperature": 0, "top_k": 3}
    with pytest.raises(TypeError, match=r"Unknown options: volume\..*'text' take temperature, max_tokens, "):
        TEXT.decoding_options({"volume": 1})
    for wrong, message in [
        ({"temperature": -1}, "temperature must be 0 or more, got -1"),
        ({"temperature": "hot"}, "temperature must be a number, got 'hot'"),
        ({"top_p": 0}, "top_p must be above 0, got 0"),
        ({"max_tokens": 1025}, "max_tokens must be 1024 or less"),
    ]:
        with pytest.raises(ValueError, match=message):
            TEXT.decoding_options(wrong)


def test_fields_say_how_commands_call_them_and_which_are_data() -> None:
    assert list(TEXT.decoding.model_fields) == ["temperature", "max_tokens", "top_k", "top_p"]
    decoding = modality_spec("image").decoding
    assert data_fields(decoding) == {"colors_of": "image"}
    assert flag(decoding, "colors_of").metavar == "FILE"
    assert all(field.description for field in (TEXT.decoding.model_fields | decoding.model_fields).values())


def test_nothing_of_models_is_imported() -> None:
    code = (
        "import sys; from versatile_diffusion.modalities.registry import modality_names, modality_spec\n"
        "[modality_spec(name).decoding for name in modality_names()]\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'soundfile', 'soxr'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_texts_as_files(tmp_path: Path) -> None:
    codec = TEXT.codec
    assert codec.decode(codec.encode("a täglich\nb")) == "a täglich\nb"
    assert codec.decode("\ufeffa".encode()) == "a"
    assert codec.parse("tent.txt") == "tent.txt"  # the words themselves
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"a\.txt: It is no text in UTF-8"):
        codec.read(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="3 are allowed"):
        codec.decode(b"abcd", most=3)
    with pytest.raises(TypeError, match="must be a str"):
        codec.encode(3)
    assert list(codec.values(["a", "b"])) == ["a", "b"]
    assert codec.measure("äb") == 2
