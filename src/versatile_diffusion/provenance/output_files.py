# pyright: strict
"""Files of outputs, which say how they were made: in themselves, or in a file of JSON beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from versatile_diffusion.files import require_file, write_whole
from versatile_diffusion.modalities.registry import modality_names, modality_spec
from versatile_diffusion.modalities.spec import Codec
from versatile_diffusion.provenance.inputs import FOLDER
from versatile_diffusion.provenance.record import CHUNK
from versatile_diffusion.provenance.stored_record import LONGEST, NoRecord, StoredRecord, parse_record

Found = tuple[StoredRecord, object]
"""A record, and the output that was made by it; None if the file does not hold that."""


class RecordNotKept(OSError):
    """An output was written without its record; the message is for the user."""


def read_outputs(file: Path) -> list[Found]:
    """Returns the records of a file, each with the output that was made by it, if the file holds that.

    Args:
        file: an output; or JSON: a record, or an object (or a list of them) with a record under "request". Inputs are
            also looked for in the folder inputs/ beside it.

    Raises:
        NoRecord: if there is no record, or none that can be used.
        ValueError: if the file cannot be read.
    """
    require_file(file)
    found = _of_json(file) if file.suffix.lower() == ".json" else _of_output(file)
    return [(stored.from_folder(file.parent / FOLDER), output) for stored, output in found]


def write_output(
    file: Path, modality: str, item: object, words: Mapping[str, object], stored: StoredRecord | None
) -> None:
    """Writes an output by the codec of its modality with its record, in words and to replay.

    What does not fit in the file is written before it: inputs that belong beside it, and the record of an output whose
    files hold none. Items that are words are written as they are: JSON is where their records are kept.

    Raises:
        RecordNotKept: if the output was written, and its record could not be.
        OSError: if the output could not be written.
    """
    codec, failure = modality_spec(modality).codec, None
    record = {key: str(value).encode(errors="replace").decode() for key, value in words.items()}
    try:
        _write_beside(file, codec, words, stored)
        record |= {} if stored is None else {CHUNK: stored.json}
    except Exception as error:  # whatever it is: the output was computed, and comes first
        failure = error
    content = codec.encode(item, record if codec.keeps_record else None)
    write_whole(file, content)
    if failure is not None:
        raise RecordNotKept(f"{file} is written without its recipe, which cannot be kept: {failure}") from failure


def _write_beside(file: Path, codec: Codec, words: Mapping[str, object], stored: StoredRecord | None) -> None:
    """Writes what belongs beside an output: its inputs, and its record if its own file holds none."""
    for name, content in ({} if stored is None else stored.files()).items():
        if not (file.parent / name).exists():
            write_whole(file.parent / name, content)
    if not (codec.keeps_record or codec.inline):
        request = {} if stored is None else {CHUNK: json.loads(stored.json)}
        told = json.dumps({**words, **request}, ensure_ascii=False)
        write_whole(beside(file), f"{told}\n".encode(errors="backslashreplace"))


def beside(file: Path) -> Path:
    """Returns where the record of an output is, if its own file holds none."""
    return file.with_name(f"{file.name}.json")


def _of_output(file: Path) -> list[Found]:
    if beside(file).exists():
        return _of_json(beside(file))
    content, failure = file.read_bytes(), None
    codecs = (modality_spec(name).codec for name in modality_names())
    for codec in (codec for codec in codecs if codec.keeps_record):
        try:
            text = codec.read_record(content).get(CHUNK)
            if text is not None:
                return [(parse_record(text), codec.decode(content))]
            break
        except NoRecord:
            raise
        except ValueError as error:
            failure = failure or f"{file} is no {_kind(codec)} that can be read ({error})."
    else:
        raise ValueError(f"{failure} Recipes are in {_kinds()} and JSON files.")
    raise NoRecord(f"{file} holds no recipe: it was not made here, or another program saved it anew.")


def _of_json(file: Path) -> list[Found]:
    try:
        if file.stat().st_size > 64 * LONGEST:
            raise ValueError("it is too long")
        value: object = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON that can be read: {error}.") from error
    entries = cast("list[object]", value) if isinstance(value, list) else [value]
    found: list[Found] = []
    for given in entries:
        entry = cast("dict[str, object]", given) if isinstance(given, dict) else {}  # keys of JSON are strings
        if not (CHUNK in entry or "format" in entry):
            raise NoRecord(f"{file} holds no recipe: one stands under {CHUNK!r} in what vd … --json prints.")
        stored = parse_record(json.dumps(entry.get(CHUNK, entry)))
        found.append((stored, _output(stored, entry, file)))
    return found


def _output(stored: StoredRecord, entry: Mapping[str, object], file: Path) -> object:
    """The output of a record in JSON: words that stand beside it, or the file that it belongs to."""
    codec = modality_spec(stored.record.to).codec
    if codec.inline:
        words = entry.get(stored.record.to)
        return words if isinstance(words, str) else None
    output = file.with_name(file.stem)
    return codec.decode(output.read_bytes()) if beside(output) == file and output.is_file() else None


def _kinds() -> str:
    codecs = (modality_spec(name).codec for name in modality_names())
    return ", ".join(_kind(codec) for codec in codecs if codec.keeps_record)


def _kind(codec: Codec) -> str:
    return codec.suffix.removeprefix(".").upper()
