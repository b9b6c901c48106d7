"""Lists of prompts: read from a file, and made in batches that do not depend on who makes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Generator

from versatile_diffusion.context import Context
from versatile_diffusion.files import read_lines
from versatile_diffusion.modalities.image_files import require_image

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.pipeline.outputs import Outputs

_KEYS = ("text", "image", "seed")
_SEEDS = 2**63  # generators take twice as many, which leaves room for the seeds of further outputs


@dataclass(frozen=True)
class Prompt:
    """A line of a list: a text, a picture or both.

    Attributes:
        line: its number, from 1.
        text: may be empty; None is no text.
        image: a file.
        seed: of its first output; None leaves it to the run.
    """

    line: int
    text: str | None = None
    image: Path | None = None
    seed: int | None = None

    @property
    def contexts(self) -> tuple[str, ...]:
        """Modalities that it conditions on."""
        return tuple(name for name in ("text", "image") if getattr(self, name) is not None)


@dataclass(frozen=True)
class Wanted:
    """An output to make."""

    prompt: Prompt
    seed: int


def read_prompts(file: Path) -> list[Prompt]:
    """The prompts of a list, without its blank lines.

    Args:
        file: a .jsonl file with an object a line, {"text": …, "image": …, "seed": …}, of which a text or an image is
            needed; images are named from the folder that the list lies in. Any other file has a text a line.

    Raises:
        ValueError: if a line cannot be used; the message names the line.
    """
    given = [(number, line) for number, line in enumerate(read_lines(file), start=1) if line.strip()]
    if not given:
        raise ValueError(f"{file} holds no prompts: write one a line.")
    if file.suffix != ".jsonl":
        return [Prompt(number, line.strip()) for number, line in given]
    prompts: list[Prompt] = []
    for number, line in given:
        try:
            prompts.append(_parsed(number, line, file.parent))
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: {error}") from error
    return prompts


def batches(prompts: Iterable[Prompt], num: int, seed: int, size: int) -> list[list[Wanted]]:
    """All outputs, in batches that can be made at once.

    What comes together depends on the list and the size alone, since other batches round otherwise. Outputs that a
    larger `num` adds come last, in batches of their own.

    Args:
        prompts: the whole list.
        num: outputs of each prompt, from its seed, the next seed and so on.
        seed: of prompts that have none.
        size: outputs in a batch, at most.
    """
    alike: dict[tuple[int, tuple[str, ...]], list[Wanted]] = {}
    listed = list(prompts)
    for i in range(num):
        for prompt in listed:
            first = seed if prompt.seed is None else prompt.seed
            alike.setdefault((i, prompt.contexts), []).append(Wanted(prompt, first + i))
    return [together[i : i + size] for together in alike.values() for i in range(0, len(together), size)]


def make(
    pipe: VersatileDiffusionPipeline, to: str, batch: Sequence[Wanted], image_weight: float = 0.5, **options: Any
) -> Outputs:
    """Makes a batch of `batches`: an output for each, which depends on its prompt and its seed alone.

    Args:
        pipe: the model.
        to: modality to make.
        batch: prompts with the same contexts.
        image_weight: share of the image where there is a text as well.
        options: see `generate`.

    Raises:
        ValueError: if an image cannot be read, or an option is not usable.
    """
    names = batch[0].prompt.contexts
    weights = {"text": 1 - image_weight, "image": image_weight} if len(names) > 1 else dict.fromkeys(names, 1.0)
    contexts = [Context(name, [getattr(one.prompt, name) for one in batch], weight=weights[name]) for name in names]
    # They draw on the CPU, so that every device gives the same outputs.
    return pipe.generate(to, contexts, generator=[Generator().manual_seed(one.seed) for one in batch], **options)


def _parsed(number: int, line: str, folder: Path) -> Prompt:
    try:
        entry = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error}.") from error
    if not isinstance(entry, dict) or not entry.keys() <= set(_KEYS):
        raise ValueError(f"an object with the keys {', '.join(_KEYS)} is expected, got {line.strip():.100}")
    text, image, seed = (entry.get(key) for key in _KEYS)
    if not isinstance(text, str | None) or not isinstance(image, str | None):
        raise ValueError("text and image must be strings.")
    if text is None and image is None:
        raise ValueError("there is neither a text nor an image: give one at least.")
    if seed is not None and (type(seed) is not int or not 0 <= seed < _SEEDS):
        raise ValueError(f"the seed must be an integer from 0 to {_SEEDS - 1}, got {seed!r}.")
    return Prompt(number, text, None if image is None else _picture(folder / image), seed)


def _picture(file: Path) -> Path:
    if not file.is_file():
        raise ValueError(f"there is no file {file}.")
    require_image(file)
    return file
