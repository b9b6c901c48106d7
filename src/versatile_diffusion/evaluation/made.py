"""What others made of the samples: files or lines that are named by a sample's number or by its key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from versatile_diffusion.evaluation.samples import EvaluationSample
from versatile_diffusion.files import quoted, read_lines
from versatile_diffusion.modalities.spec import Codec
from versatile_diffusion.modalities.text_spec import TEXT

Made = TypeVar("Made")

_LISTS = (".jsonl", ".ndjson", ".json")
_TEXTS = (TEXT.name, "caption")
_NAMES = ("number", "key", "image_id")
_SHOWN = 5
_ENTRIES = TypeAdapter(list[dict[str, object]])


def made_files(folder: Path, samples: Sequence[EvaluationSample], codec: Codec) -> list[Path]:
    """Returns the file that was made of each sample.

    Args:
        folder: of the files, which may be nested.
        samples: of which they were made.
        codec: of the files; those of other suffixes are left alone.

    Raises:
        ValueError: if one is missing; the message names samples without a file.
    """
    if not folder.is_dir():
        raise ValueError(f"There is no folder {quoted(folder)} of what was made.")
    found = [file for file in sorted(folder.rglob("*")) if file.suffix.lower() in codec.suffixes and file.is_file()]
    named: dict[str, Path] = {}
    for file in found:
        named.setdefault(file.stem, file)
    named |= {file.relative_to(folder).with_suffix("").as_posix(): file for file in found}
    return _of_each(samples, named, quoted(folder))


def made_texts(place: Path, samples: Sequence[EvaluationSample], codec: Codec) -> list[str]:
    """Returns the text that was made of each sample.

    Args:
        place: a folder of files, or a list: a .jsonl file with an object a line, or a .json file with an array of
            them, such as {"number": 0, "text": …}, {"key": …, "text": …}, or COCO's {"image_id": …, "caption": …}.
        samples: of which they were made.
        codec: of the files in a folder.

    Raises:
        ValueError: if one is missing, or a file is no text in UTF-8.
    """
    if place.suffix.lower() in _LISTS and not place.is_dir():
        return _of_each(samples, _listed(place), quoted(place))
    return [str(codec.read(file)) for file in made_files(place, samples, codec)]


def _of_each(samples: Sequence[EvaluationSample], named: Mapping[str, Made], place: str) -> list[Made]:
    """What bears the name of each sample: all by their keys or all by their numbers, whichever there are more of."""
    numbered = {int(name): made for name, made in named.items() if name.isdecimal()}
    by_key = [next((named[name] for name in _keys(sample) if name in named), None) for sample in samples]
    by_number = [numbered.get(sample.number) for sample in samples]
    chosen = by_number if by_key.count(None) > by_number.count(None) else by_key
    missing = [sample for sample, made in zip(samples, chosen, strict=True) if made is None]
    if missing:
        named_ones = [f"{sample.number:06} ({sample.key:.100})" for sample in missing[:_SHOWN]]
        more = "" if len(missing) <= _SHOWN else ", …"
        raise ValueError(
            f"{place} lacks what was made of {len(missing)} of {len(samples)} samples: {', '.join(named_ones)}"
            f"{more}. Name each by the number or the key that samples.jsonl gives; `--only list` writes it."
        )
    return [made for made in chosen if made is not None]


def _keys(sample: EvaluationSample) -> list[str]:
    """Names by which something may belong to a sample; COCO's results have the number at the end of its name."""
    key = PurePosixPath(sample.key)
    key = key.with_suffix("") if key.suffix and not key.suffix[1:].isdecimal() else key
    digits = key.name[len(key.name.rstrip("0123456789")) :]
    return [sample.key, key.as_posix(), key.name, *([f"id {int(digits)}"] if digits else [])]


def _listed(file: Path) -> dict[str, str]:
    """The texts of a list by their names."""
    lines = read_lines(file)
    try:
        whole = "\n".join(lines)
        array = whole.lstrip().startswith("[")
        checked = _ENTRIES.validate_python(
            json.loads(whole) if array else [json.loads(each) for each in lines if each.strip()]
        )
    except (ValueError, ValidationError, RecursionError) as error:
        raise ValueError(f"{quoted(file)} is no list of objects of JSON: {str(error).splitlines()[0]:.200}") from error
    found: dict[str, str] = {}
    for number, entry in enumerate(checked, 1):
        text = next((entry[name] for name in _TEXTS if isinstance(entry.get(name), str)), None)
        name = next((each for each in _NAMES if isinstance(entry.get(each), str | int)), None)
        if text is None or name is None:
            raise ValueError(
                f"{quoted(file)}, entry {number}: an object with {' or '.join(_TEXTS)} and one of {', '.join(_NAMES)} "
                "is expected."
            )
        found[f"id {entry[name]}" if name == "image_id" else str(entry[name])] = str(text)
    return found
