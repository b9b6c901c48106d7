"""Files: written whole or not at all, read line by line, and sent along as base64."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

_SHOWN = 300  # characters of a path that a message quotes


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file, whole or not at all, and the folders it lies in.

    Raises:
        OSError: if it could not; the message names the file, also where the disk is full.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{uuid4().hex}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(file)
    except BaseException as error:
        unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(file)) from error
        raise


def require_same_settings(file: Path, settings: Mapping[str, object], begun: bool) -> None:
    """Keeps what the files of a folder are made with.

    Args:
        file: a JSON file in that folder.
        settings: that are the same for all files.
        begun: whether there are files already; if not, the settings may change.

    Raises:
        ValueError: if these were made with other settings.
    """
    before = json.loads(file.read_text()) if file.exists() else None
    settings = json.loads(json.dumps(settings))  # as they are read back
    if before is None or not begun:
        if before != settings:
            write_whole(file, (json.dumps(settings, indent=2) + "\n").encode())
        return
    keys = dict.fromkeys((*settings, *before))  # what is left out is None
    changed = [f"{key} was {before.get(key)}" for key in keys if before.get(key) != settings.get(key)]
    if changed:
        raise ValueError(
            f"The files in {file.parent} were made otherwise: {', '.join(changed)}. Choose another --output."
        )


def require_file(file: Path) -> None:
    """Finds, before anything is read, what is no file: a folder, a pipe that may never end, nothing at all.

    Raises:
        ValueError: if it is no file; the message names it.
    """
    try:
        found = file.exists()
    except (OSError, ValueError) as error:  # such as a name that is too long, or holds a zero
        raise ValueError(f"There is no file {quoted(file)}: {getattr(error, 'strerror', None) or error}.") from error
    if not found:
        raise ValueError(f"There is no file {quoted(file)}.")
    if not file.is_file():
        kind = "a folder" if file.is_dir() else "a pipe or a device"
        raise ValueError(f"{quoted(file)} is {kind}, and not a file: name a file.")


def quoted(file: Path | str) -> str:
    """Returns the name of a file as a message quotes it: the beginning of one that is very long."""
    return f"{file!s:.{_SHOWN}}"


def read_lines(file: Path) -> list[str]:
    """Returns the lines of a text in UTF-8, blank ones among them.

    Only line breaks part them, no other separators of Unicode.

    Raises:
        ValueError: if it is something else.
    """
    require_file(file)
    try:
        text = file.read_text(encoding="utf-8-sig")  # editors on Windows begin texts with a mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{quoted(file)} is not a text in UTF-8: {error}.") from error
    if "\0" in text:  # as in binary files, and in UTF-16 without a mark
        raise ValueError(f"{quoted(file)} is not a text in UTF-8: it holds zeros. Save it as UTF-8.")
    return text.removesuffix("\n").split("\n") if text else []


def is_data_url(given: str) -> bool:
    """Tells whether a string holds its data itself, as in "data:image/png;base64,iVBORw0KGgo…"."""
    return given[:5].lower() == "data:"


def read_base64(given: str) -> bytes:
    """Returns the bytes that base64 stands for, with line breaks or in a data URL, too.

    Raises:
        ValueError: if it is something else.
    """
    if is_data_url(given):
        head, _, given = given.partition(",")
        if not head.lower().endswith(";base64"):
            raise ValueError("A data URL must hold base64, as in data:image/png;base64,iVBORw0KGgo….")
    try:
        return base64.b64decode("".join(given.split()), validate=True)
    except (binascii.Error, ValueError) as error:  # the latter where there are letters of other alphabets
        raise ValueError(f"This is not base64 ({error}).") from error
