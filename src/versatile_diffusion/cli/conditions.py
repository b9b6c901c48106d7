"""What commands condition on, as options: texts, pictures and embeddings, each with what belongs to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from versatile_diffusion.cli.files import read_tensor
from versatile_diffusion.cli.making import read_picture
from versatile_diffusion.cli.options import weighted

if TYPE_CHECKING:
    from versatile_diffusion.context import Context

_UNCONDITIONAL = ("default", "zeros")
_COLON = 'If it ends in a colon and a number itself, add a weight, as in "10:30:1".'

Texts = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="TEXT[:WEIGHT]", help=f"A text; may be repeated. {_COLON}"),
]
Images = Annotated[
    list[str] | None, typer.Option("--image", metavar="FILE[:WEIGHT]", help="A picture; may be repeated.")
]
Embeddings = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        metavar="text|image=FILE[:WEIGHT]",
        help="Context tokens (b n d) or (n d) instead of data: .safetensors, .npz or .npy.",
    ),
]
Masks = Annotated[
    list[str] | None,
    typer.Option("--mask", metavar="PICTURE=FILE", help="What of a picture is seen: what is white in the mask."),
]
FocusOfEach = Annotated[
    list[str] | None,
    typer.Option(
        "--focus", metavar="[PICTURE=]LEVEL", help="0 keeps what is seen, 1 its style, 0.5 both; of one picture or all."
    ),
]
Unconditional = Annotated[
    list[str] | None,
    typer.Option(
        "--unconditional",
        metavar="[text|image=]VALUE",
        help='What stands for no condition: "default", "zeros" or a file with an embedding.',
    ),
]


@dataclass(frozen=True)
class Conditions:
    """What to condition on."""

    text: Texts = None
    image: Images = None
    embedding: Embeddings = None
    mask: Masks = None
    focus: FocusOfEach = None
    unconditional: Unconditional = None

    def contexts(self) -> list[Context]:
        """All of them.

        Raises:
            ValueError: if none has a weight above 0, or an option names what is not there.
        """
        from versatile_diffusion.context import Context
        from versatile_diffusion.modalities.images import read_mask

        files = [file for file, _ in map(weighted, self.image or [])]
        masks = [
            None if mask is None else read_mask(mask)
            for mask in assigned("--mask", self.mask, files, for_all=len(files) == 1)
        ]
        levels = [_number(level) for level in assigned("--focus", self.focus, files)]
        none = self._unconditional()
        contexts = [Context("text", data, weight=w, **none("text")) for data, w in map(weighted, self.text or [])]
        for (file, weight), mask, level in zip(map(weighted, self.image or []), masks, levels, strict=True):
            more = {} if level is None else {"focus": level}
            contexts.append(Context("image", read_picture(file), weight=weight, mask=mask, **more, **none("image")))
        for modality, file, weight in self._embeddings:
            contexts.append(Context(modality, embedding=_tokens(file), weight=weight, **none(modality)))
        if not any(context.weight > 0 for context in contexts):
            raise ValueError("Nothing to go by: give at least one --text or --image with a weight above 0.")
        return contexts

    @property
    def subject(self) -> str:
        """All of them in words."""
        files = [weighted(file)[0] for file in self.image or []] + [file for _, file, _ in self._embeddings]
        return " + ".join([weighted(text)[0] for text in self.text or []] + [Path(file).stem for file in files])

    @property
    def recipe(self) -> dict[str, str | None]:
        """What the user wrote."""
        names = {"text": "texts", "image": "images", "embedding": "embeddings", "mask": "masks"}
        return {names.get(name, name): " | ".join(given) if given else None for name, given in vars(self).items()}

    @property
    def _embeddings(self) -> list[tuple[str, str, float]]:
        return [_embedding(item) for item in self.embedding or []]

    def _unconditional(self) -> Any:
        """A function from a modality to its options."""
        modalities = list(dict.fromkeys(
            [name for name in ("text", "image") if getattr(self, name)] + [name for name, *_ in self._embeddings]
        ))  # fmt: skip
        values = assigned("--unconditional", self.unconditional, modalities)
        given = {
            name: value if value in _UNCONDITIONAL else _tokens(value)
            for name, value in zip(modalities, values, strict=True)
            if value is not None
        }
        return lambda modality: {"unconditional": given[modality]} if modality in given else {}


@dataclass(frozen=True)
class Negatives:
    """What to move away from."""

    negative: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT[:WEIGHT]", help=f"A text to move away from; may be repeated. {_COLON}"),
    ] = None
    negative_image: Annotated[
        list[str] | None, typer.Option(metavar="FILE[:WEIGHT]", help="A picture to move away from; may be repeated.")
    ] = None

    def options(self) -> dict[str, list[Context]]:
        """Options of `generate`."""
        from versatile_diffusion.context import Context

        contexts = [Context("text", data, weight=weight) for data, weight in map(weighted, self.negative or [])]
        files = map(weighted, self.negative_image or [])
        contexts += [Context("image", read_picture(file), weight=weight) for file, weight in files]
        return {"negative": contexts} if contexts else {}

    @property
    def modalities(self) -> list[str]:
        """Of all of them."""
        return ["text"] * bool(self.negative) + ["image"] * bool(self.negative_image)

    @property
    def recipe(self) -> dict[str, str | None]:
        """What the user wrote."""
        names = {"negative": self.negative, "negative_images": self.negative_image}
        return {name: " | ".join(given) if given else None for name, given in names.items()}


def assigned(option: str, items: Sequence[str] | None, names: Sequence[str], for_all: bool = True) -> list[str | None]:
    """The value that an option gives each of the names, if any.

    Args:
        option: its name.
        items: "name=value", where a file may be named without its folder, or just a value for all that have no other.
        names: of what values may be given to.
        for_all: whether a value without a name is allowed.

    Raises:
        ValueError: if an item names nothing that is there, or a second value is given.
    """
    own: dict[str, str] = {}
    common: str | None = None
    for item in items or []:
        name = max((name for name in _spellings(names) if item.startswith(f"{name}=")), key=len, default=None)
        if name is not None:
            (named,) = _spellings(names)[name]
            if named in own:
                raise ValueError(f"{option}: {name} has two of them, and takes one. Leave one out.")
            own[named] = item[len(name) + 1 :]
        elif "=" in item or not for_all or not names:
            there = f"one of {', '.join(dict.fromkeys(names))}" if names else "something to give it to"
            raise ValueError(f"{option} {item} needs {there}, as in {option} {(*names, 'a.png')[0]}=….")
        elif common is not None:
            raise ValueError(
                f"{option} has two values for all, {common} and {item}. Leave one out, or say whose it is."
            )
        else:
            common = item
    return [own.get(name, common) for name in names]


def _spellings(names: Sequence[str]) -> dict[str, set[str]]:
    """Each name under itself and, where only one is meant, without its folder."""
    short: dict[str, set[str]] = {}
    for name in names:
        short.setdefault(Path(name).name, set()).add(name)
    return {spelt: meant for spelt, meant in short.items() if len(meant) == 1} | {name: {name} for name in names}


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError as error:
        raise ValueError(f"--focus takes a number between 0 and 1, got {text!r}.") from error


def _embedding(item: str) -> tuple[str, str, float]:
    modality, _, file = item.partition("=")
    if not file:
        raise ValueError(f"--embedding {item} must say what it is, as in --embedding image={item}.")
    return (modality, *weighted(file))


def _tokens(file: str) -> Any:
    tensor = read_tensor(file)
    return tensor[None] if tensor.ndim == 2 else tensor
