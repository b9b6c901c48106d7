"""What commands condition on, as options: data and embeddings of any modality, each with what belongs to it."""
# pyright: strict

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from versatile_diffusion.cli.files import name_of, read_tensor
from versatile_diffusion.cli.flags import EachOtherModality
from versatile_diffusion.cli.options import weighted
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.text_spec import TEXT

if TYPE_CHECKING:
    from torch import Tensor

    from versatile_diffusion.context import Context

_UNCONDITIONAL = ("default", "zeros")
_COLON = 'If it ends in a colon and a number itself, add a weight, as in "10:30:1".'

Named = Annotated[
    list[str] | None,
    typer.Option(
        "--context",
        metavar="NAME=FILE[:WEIGHT]",
        help="Data of any modality of the model, such as sound=bell.wav:0.4, or words where it is words.",
    ),
]
Texts = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="TEXT[:WEIGHT]", help=f"A text; may be repeated. {_COLON}"),
]
Images = Annotated[
    list[str] | None, typer.Option("--image", metavar="FILE[:WEIGHT]", help="A picture; may be repeated.")
]
Others = Annotated[
    Mapping[str, list[str]], EachOtherModality("--{}", "FILE[:WEIGHT]", "Data of that modality; may be repeated.")
]
NegativeOthers = Annotated[
    Mapping[str, list[str]],
    EachOtherModality("--negative-{}", "FILE[:WEIGHT]", "Data to move away from; may be repeated."),
]
Embeddings = Annotated[
    list[str] | None,
    typer.Option(
        "--embedding",
        metavar="NAME=FILE[:WEIGHT]",
        help="Context tokens (b n d) or (n d) of a modality instead of data: .safetensors, .npz or .npy.",
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
        metavar="[NAME=]VALUE",
        help='What stands for no condition: "default", "zeros" or a file with an embedding.',
    ),
]


@dataclass(frozen=True)
class GivenContext:
    """A context as the user wrote it.

    Attributes:
        modality: its name.
        argument: a file, or words.
        weight: its share.
    """

    modality: str
    argument: str
    weight: float

    @classmethod
    def parse(cls, modality: str, item: str) -> GivenContext:
        """Reads "ARGUMENT[:WEIGHT]"."""
        return cls(modality, *weighted(item))

    @classmethod
    def parse_named(cls, flag: str, item: str) -> GivenContext:
        """Reads "NAME=ARGUMENT[:WEIGHT]".

        Raises:
            ValueError: if it names no modality, or one that is not known.
        """
        modality, equals, argument = item.partition("=")
        if not equals or not argument:
            raise ValueError(f"{flag} {item:.80} must say what it is, as in {flag} {IMAGE.name}={item:.80}.")
        return cls.parse(modality_spec(modality).name, argument)

    @property
    def is_words(self) -> bool:
        """Whether the argument is not a file."""
        return modality_spec(self.modality).codec.inline

    @property
    def subject(self) -> str:
        """What it is, in words."""
        return self.argument if self.is_words else name_of(self.argument)

    def context(self, **options: object) -> Context:
        """Returns the context with its data. Raises ValueError if a file cannot be read, or an option is not usable."""
        from versatile_diffusion.context import Context

        data = modality_spec(self.modality).codec.parse(self.argument)
        return Context(self.modality, data, weight=self.weight).changed(**options)


@dataclass(frozen=True)
class Conditions:
    """What to condition on."""

    context: Named = None
    text: Texts = None
    image: Images = None
    others: Others = field(default_factory=dict[str, list[str]])
    embedding: Embeddings = None
    mask: Masks = None
    focus: FocusOfEach = None
    unconditional: Unconditional = None

    def contexts(self) -> list[Context]:
        """Returns all of them.

        Raises:
            ValueError: if none has a weight above 0, or an option names what is not there.
        """
        from versatile_diffusion.context import Context

        files = [one.argument for one in self._data if not one.is_words]
        masks = dict(zip(files, assigned("--mask", self.mask, files, for_all=len(files) == 1), strict=True))
        levels = dict(zip(files, assigned("--focus", self.focus, files), strict=True))
        none = self._unconditional()
        contexts: list[Context] = []
        for one in self._data:
            own = dict[str, object]() if one.is_words else _of_file(masks[one.argument], levels[one.argument])
            contexts.append(one.context(**own, **none.get(one.modality, {})))
        for one in self._embeddings:
            options = none.get(one.modality, {})
            contexts.append(
                Context(one.modality, embedding=_tokens(one.argument), weight=one.weight).changed(**options)
            )
        if not any(context.weight > 0 for context in contexts):
            raise ValueError("Nothing to go by: give at least one --text or --image with a weight above 0.")
        return contexts

    @property
    def subject(self) -> str:
        """All of them in words."""
        return " + ".join([one.subject for one in self._data] + [Path(one.argument).stem for one in self._embeddings])

    @property
    def words(self) -> dict[str, object]:
        """What the user wrote."""
        of_each = ("focus", "unconditional")
        written = {**vars(self), **self.others}
        del written["others"]
        given = {name if name in of_each else f"{name}s": items for name, items in written.items()}
        return {name: " | ".join(items) if items else None for name, items in given.items()}

    @property
    def _data(self) -> list[GivenContext]:
        short = {TEXT.name: self.text, IMAGE.name: self.image, **self.others}
        return _given("--context", short, self.context)

    @property
    def _embeddings(self) -> list[GivenContext]:
        return [GivenContext.parse_named("--embedding", item) for item in self.embedding or []]

    def _unconditional(self) -> dict[str, dict[str, object]]:
        """The option of the contexts of each modality that has one."""
        modalities = list(dict.fromkeys(one.modality for one in (*self._data, *self._embeddings)))
        values = assigned("--unconditional", self.unconditional, modalities)
        return {
            name: {"unconditional": value if value in _UNCONDITIONAL else _tokens(value)}
            for name, value in zip(modalities, values, strict=True)
            if value is not None
        }


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
    negative_others: NegativeOthers = field(default_factory=dict[str, list[str]])
    negative_context: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE[:WEIGHT]", help="Data of any modality to move away from; may be repeated."),
    ] = None

    def options(self) -> dict[str, list[Context]]:
        """Returns options of `generate`."""
        contexts = [one.context() for one in self._data]
        return {"negative": contexts} if contexts else {}

    @property
    def modalities(self) -> list[str]:
        """Of all of them."""
        return [one.modality for one in self._data]

    @property
    def words(self) -> dict[str, object]:
        """What the user wrote."""
        names = {
            "negative": self.negative,
            "negative_images": self.negative_image,
            **{f"negative_{name}s": given for name, given in self.negative_others.items()},
            "negative_contexts": self.negative_context,
        }
        return {name: " | ".join(given) if given else None for name, given in names.items()}

    @property
    def _data(self) -> list[GivenContext]:
        short = {TEXT.name: self.negative, IMAGE.name: self.negative_image, **self.negative_others}
        return _given("--negative-context", short, self.negative_context)


def _given(flag: str, short: Mapping[str, Sequence[str] | None], named: Sequence[str] | None) -> list[GivenContext]:
    """Contexts that were given in the short forms, by their modalities, and by the names of their modalities."""
    given = [GivenContext.parse(name, item) for name, items in short.items() for item in items or []]
    return given + [GivenContext.parse_named(flag, item) for item in named or []]


def _of_file(mask: str | None, level: str | None) -> Mapping[str, object]:
    """Options of a context that is a file."""
    from versatile_diffusion.modalities.images import read_mask

    own: dict[str, object] = {} if mask is None else {"mask": read_mask(mask)}
    return own if level is None else {**own, "focus": _number(level)}


def assigned(option: str, items: Sequence[str] | None, names: Sequence[str], for_all: bool = True) -> list[str | None]:
    """Returns the value that an option gives each of the names, if any.

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


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"--focus takes a number between 0 and 1, got {text!r}.") from error


def _tokens(file: str) -> Tensor:
    tensor = read_tensor(file)
    return tensor[None] if tensor.ndim == 2 else tensor
