"""Folders: files that belong together have the same name but for their suffix."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from versatile_diffusion.data.sample import Row, SamplePart, captions_of, file_modality, words_modality


def folder_rows(folder: Path) -> dict[str, list[str]]:
    """Returns the files of each sample in a folder and those below it, by the name that they share.

    Names are relative to the folder; hidden files and folders are left out. Nothing is opened.
    """
    found: dict[str, list[str]] = {}
    for place in files_below(folder):
        if file_modality(place) is not None:
            found.setdefault(str(Path(place).with_suffix("")), []).append(place)
    return found


def row_of_files(folder: Path, name: str, files: Sequence[str]) -> Row:
    """Returns the row of files that share a name. Each line of a text is a caption."""
    parts: list[SamplePart] = []
    for file in files:
        modality = file_modality(file)
        assert modality is not None  # see `folder_rows`
        if modality != words_modality():
            parts.append(SamplePart(modality, folder / file))
            continue
        try:
            parts += captions_of((folder / file).read_text(encoding="utf-8-sig"))
        except (UnicodeDecodeError, OSError) as error:
            return Row(name, problem=f"The caption {file} is not a text in UTF-8: {error}.")
    return Row(name, parts)


def named_files(source: str, suffixes: Sequence[str]) -> list[Path]:
    """Returns the files of some suffixes that a source names: a file, a folder that holds them, or a pattern with *."""
    path = Path(source)
    if path.is_dir():
        found = [each for each in path.iterdir() if not each.name.startswith(".")]
    elif "*" in source:
        found = [each for each in path.parent.glob(path.name)] if "*" not in str(path.parent) else []
    else:
        found = [path]
    return sorted(each for each in found if each.suffix.lower() in suffixes and each.is_file())


def listing(source: str) -> str:
    """Returns a checksum of the names, sizes and times of the files of a data set, which tells whether it changed."""
    path = Path(source)
    files = (
        [path / name for name in files_below(path)] if path.is_dir() else named_files(source, (path.suffix.lower(),))
    )
    digest = sha256()
    for file in files:
        status = file.lstat()  # a link to nowhere is a sample that will be named
        digest.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()[:16]


def files_below(folder: Path) -> Iterator[str]:
    """Yields the files in a folder and below it, in the order of their names, relative to it.

    Links to folders are followed, but no folder is read twice: a link may lead back to where it lies.
    """
    read = set[str]()
    for place, folders, files in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in read:
            folders.clear()
            continue
        read.add(real)
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        relative = Path(place).relative_to(folder)
        yield from (str(relative / file) for file in sorted(files) if not file.startswith("."))
