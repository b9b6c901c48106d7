"""Files: written whole or not at all, and read line by line."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file, whole or not at all, and the folders it lies in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{uuid4().hex}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def read_lines(file: Path) -> list[str]:
    """The lines of a text in UTF-8, blank ones among them. Only line breaks part them, no other separators of Unicode.

    Raises:
        ValueError: if it is something else.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # editors on Windows begin texts with a mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not a text in UTF-8: {error}.") from error
    return text.removesuffix("\n").split("\n") if text else []
