"""Lists of prompts: read from a file, and made in batches that do not depend on who makes them."""
# pyright: strict

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from versatile_diffusion._moved import former_names
from versatile_diffusion.context import Context
from versatile_diffusion.files import quoted, read_lines
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.registry import modality_names, modality_spec
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.validation import shortened

if TYPE_CHECKING:
    from versatile_diffusion.pipeline.outputs import Outputs
    from versatile_diffusion.pipeline.pipeline import FlowPipeline

JSON_LINES = (".jsonl", ".ndjson", ".json")
"""Suffixes of lists of objects; a .json file may also hold them as one array."""

_OTHERS = (
    *(".csv", ".tsv", ".yaml", ".yml", ".toml", ".xml", ".html", ".htm", ".svg", ".rtf", ".pdf", ".doc", ".docx"),
    *(".odt", ".xlsx", ".ods", ".parquet", ".ipynb", ".py", ".tex"),
)
"""Suffixes of files whose lines are no texts to make something of."""
_SEED = "seed"
_SEEDS = 2**63  # generators take twice as many, which leaves room for the seeds of further outputs


@dataclass(frozen=True)
class Prompt:
    """A line of a list: a text, an image, data of another modality, or several of these.

    Attributes:
        line: its number, from 1.
        text: may be empty; None is no text.
        image: a file.
        seed: of its first output; None leaves it to the run.
        others: data of other modalities by their names: words, or a file.
    """

    line: int
    text: str | None = None
    image: Path | None = None
    seed: int | None = None
    others: Mapping[str, str | Path] = field(default_factory=dict[str, "str | Path"], hash=False)

    @property
    def data(self) -> dict[str, str | Path]:
        """What it conditions on, by the names of modalities."""
        given = {TEXT.name: self.text, IMAGE.name: self.image, **self.others}
        return {name: data for name, data in given.items() if data is not None}

    @property
    def contexts(self) -> tuple[str, ...]:
        """Modalities that it conditions on."""
        return tuple(self.data)


@dataclass(frozen=True)
class WantedOutput:
    """An output to make."""

    prompt: Prompt
    seed: int


def read_prompts(file: Path) -> list[Prompt]:
    """Returns the prompts of a list, without its blank lines.

    Args:
        file: a .jsonl, .ndjson or .json file with an object a line, {"text": …, "image": …, "seed": …}, or an array of
            them. Data of one modality at least is needed; a string is a text alone, and files are named from the folder
            that the list lies in. Any other file has a text a line.

    Raises:
        ValueError: if a line cannot be used; the message names the line.
    """
    require_list(file)
    read = _of_json if file.suffix.lower() in JSON_LINES else _of_texts
    prompts = read(file)
    if not prompts:
        raise ValueError(f"{file} holds no prompts: write one a line.")
    return prompts


def require_list(file: Path, suffixes: Sequence[str] = ()) -> None:
    """Finds files that are no lists by what they are called, before they are read line by line.

    Args:
        file: the list.
        suffixes: more than the usual ones that are refused.

    Raises:
        ValueError: if its lines are no texts; the message says what would do.
    """
    if file.suffix.lower() in (*_OTHERS, *suffixes):
        objects = "" if suffixes else ", or an object a line (.jsonl)"
        raise ValueError(f"{quoted(file)} is no list of texts: write a text a line (.txt){objects}.")


def batches(prompts: Iterable[Prompt], num: int, seed: int, size: int) -> list[list[WantedOutput]]:
    """Returns all outputs, in batches that can be made at once.

    What comes together depends on the list and the size alone, since other batches round otherwise. Outputs that a
    larger `num` adds come last, in batches of their own.

    Args:
        prompts: the whole list.
        num: outputs of each prompt, from its seed, the next seed and so on.
        seed: of prompts that have none.
        size: outputs in a batch, at most.

    Raises:
        ValueError: if a seed would be larger than generators take.
    """
    listed = list(prompts)
    largest = max((seed if prompt.seed is None else prompt.seed for prompt in listed), default=seed)
    if largest + num > 2**64:
        raise ValueError(f"The seed {largest} leaves no room for {num} seeds, which go up to {2**64 - 1}.")
    alike: dict[tuple[int, tuple[str, ...]], list[WantedOutput]] = {}
    for i in range(num):
        for prompt in listed:
            first = seed if prompt.seed is None else prompt.seed
            alike.setdefault((i, prompt.contexts), []).append(WantedOutput(prompt, first + i))
    return [together[i : i + size] for together in alike.values() for i in range(0, len(together), size)]


def make(
    pipe: FlowPipeline, to: str, batch: Sequence[WantedOutput], image_weight: float = 0.5, **options: Any
) -> Outputs:
    """Makes a batch of `batches`: an output for each, which depends on its prompt and its seed alone.

    Args:
        pipe: the model.
        to: modality to make.
        batch: prompts with the same contexts.
        image_weight: share of the image where there is a text as well; other contexts count alike.
        options: see `generate`.

    Raises:
        ValueError: if a file cannot be read, or an option is not usable.
    """
    names = batch[0].prompt.contexts
    mixed = {TEXT.name: 1 - image_weight, IMAGE.name: image_weight}
    weights = mixed if set(names) == mixed.keys() else dict.fromkeys(names, 1.0)
    contexts = [Context(name, [_item(one.prompt, name) for one in batch], weight=weights[name]) for name in names]
    return pipe.generate(to, contexts, seeds=tuple(one.seed for one in batch), **options)


def _item(prompt: Prompt, modality: str) -> object:
    data = prompt.data[modality]
    return modality_spec(modality).codec.read(data) if isinstance(data, Path) else data


def _of_texts(file: Path) -> list[Prompt]:
    prompts = [Prompt(n, line.strip()) for n, line in enumerate(read_lines(file), 1) if line.strip()]
    if prompts and _is_object(prompts[0].text or ""):
        raise ValueError(
            f"{file}, line {prompts[0].line}: this is a JSON object: call the file .jsonl to have it read."
        )
    return prompts


def _of_json(file: Path) -> list[Prompt]:
    lines = read_lines(file)
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if numbered and numbered[0][1].lstrip().startswith("["):
        entries = enumerate(_array(file, lines), 1)
        return [_named(f"{file}, entry {number}", number, entry, file.parent) for number, entry in entries]
    return [_named(f"{file}, line {number}", number, _Line(line), file.parent) for number, line in numbered]


def _array(file: Path, lines: Sequence[str]) -> list[object]:
    try:
        return json.loads("\n".join(lines))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON that can be read: {error}.") from error


@dataclass(frozen=True)
class _Line:
    """An entry that is not decoded yet."""

    text: str

    @property
    def entry(self) -> object:
        try:
            return json.loads(self.text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"this is not JSON: {error}.") from error


def _named(where: str, number: int, entry: object, folder: Path) -> Prompt:
    """The prompt of an entry. Raises ValueError, which says where it stands."""
    try:
        return _parsed(number, entry.entry if isinstance(entry, _Line) else entry, folder)
    except (ValueError, OSError) as error:
        raise ValueError(f"{where}: {shortened(str(error))}") from error


def _parsed(number: int, given: object, folder: Path) -> Prompt:
    if isinstance(given, str):
        given = {TEXT.name: given}
    keys = tuple(dict.fromkeys((TEXT.name, IMAGE.name, *modality_names(), _SEED)))
    entry = cast("dict[str, object]", given) if isinstance(given, dict) else None  # keys of JSON are strings
    if entry is None or not entry.keys() <= set(keys):
        told = json.dumps(given, ensure_ascii=True)
        raise ValueError(f"an object with the keys {', '.join(keys)} is expected, got {told:.100}")
    seed = entry.pop(_SEED, None)
    data = {name: _data(name, value, folder) for name, value in entry.items() if value is not None}
    if not data:
        raise ValueError("there is neither a text nor an image: give one at least.")
    if seed is not None and (type(seed) is not int or not 0 <= seed < _SEEDS):
        raise ValueError(f"the seed must be an integer from 0 to {_SEEDS - 1}, got {seed!r:.80}.")
    image, text = data.pop(IMAGE.name, None), data.pop(TEXT.name, None)
    assert isinstance(image, Path | None) and isinstance(text, str | None)  # by the codecs of these two
    return Prompt(number, text, image, seed, data)


def _data(modality: str, value: object, folder: Path) -> str | Path:
    """Words, or the file that a value names."""
    if not isinstance(value, str):
        raise ValueError(f"{modality} must be a string.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{modality} holds half a character at {error.start + 1}: a surrogate without its pair."
        ) from error
    codec = modality_spec(modality).codec
    if codec.inline:
        return value
    file = folder / value
    if not file.exists():
        raise ValueError(f"there is no file {quoted(file)}.")
    codec.require(file)
    return file


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


__getattr__ = former_names(__name__, {"Wanted": f"{__name__}:WantedOutput"})
