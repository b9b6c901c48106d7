"""Addresses that agents give in place of pictures and the like, which they can seldom send: outputs, and files."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from versatile_diffusion.engine.jobs import Job
from versatile_diffusion.modalities.registry import modality_names, modality_spec
from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.serving.uploads import Refused

OUTPUTS = "vd://jobs/{job}/{number}"
"""The addresses of outputs, as a template of RFC 6570."""
_OUTPUT = re.compile(r"vd://jobs/([0-9a-f]{32})/(\d{1,4})")
_FILES = "vd://files/"


def is_address(given: str) -> bool:
    """Whether it is meant as an address."""
    return given.startswith(_FILES) or _OUTPUT.fullmatch(given) is not None


def address(job: Job, number: int) -> str:
    """The address of an output of a job, by its number from 0."""
    return f"vd://jobs/{job.id}/{number}"


@dataclass(frozen=True)
class Addressed:
    """What is at an address.

    Attributes:
        content: words, or the content of a file.
        media_type: of the content.
    """

    content: str | bytes
    media_type: str


@dataclass(frozen=True)
class Addresses:
    """What an agent may name.

    Attributes:
        jobs: whose outputs have addresses.
        owner: who asks, and has only outputs of its own.
        folder: whose files have addresses; None if none have.
    """

    jobs: JobService
    owner: str
    folder: Path | None = None

    def at(self, place: str) -> Addressed:
        """Returns what is at an address.

        Raises:
            Refused: if there is nothing.
            HTTPException: if its job is forgotten, or another's.
        """
        if place.startswith(_FILES):
            return self._file(unquote(place.removeprefix(_FILES)))
        match = _OUTPUT.fullmatch(place)
        if match is None:
            raise Refused(f"{place!r:.100} is no address of an output, such as {OUTPUTS}.")
        return self._output(match[1], int(match[2]))

    def _output(self, identifier: str, number: int) -> Addressed:
        job = self.jobs.find(identifier, self.owner)
        items: Sequence[object] = [] if job.state.result is None else job.state.result.items
        if number >= len(items):
            raise Refused(f"There is no output {number} of that job, which made {len(items)}.")
        codec, item = modality_spec(job.request.to).codec, items[number]
        return Addressed(item if codec.inline and isinstance(item, str) else codec.encode(item), codec.media_type)

    def _file(self, name: str) -> Addressed:
        if self.folder is None:
            raise Refused("No files can be named here: start vd mcp with --folder FOLDER.")
        folder, path = self.folder.resolve(), (self.folder / name).resolve()
        if not path.is_relative_to(folder) or path.suffix.lower() not in _suffixes() or not path.is_file():
            raise Refused(f"There is no picture {name!r:.100} in the folder of vd mcp.")
        if path.stat().st_size > self.jobs.limits.body:
            raise Refused(f"{name!r:.100} has more than {self.jobs.limits.body} bytes, which a call may have.")
        return Addressed(path.read_bytes(), mimetypes.guess_type(path.name)[0] or "application/octet-stream")


def file_addresses(folder: Path) -> Iterator[str]:
    """Returns the addresses of the files in a folder that a modality reads, in the order of their names."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _suffixes() and path.is_file():
            yield _FILES + quote(path.relative_to(folder).as_posix())


def _suffixes() -> set[str]:
    """Suffixes of files that a modality reads."""
    return {suffix for name in modality_names() for suffix in modality_spec(name).codec.suffixes}
