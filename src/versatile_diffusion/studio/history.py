"""Results that survive a restart: a table in SQLite, and files beside it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any
from uuid import uuid4

from sqlite_utils import Database

from versatile_diffusion.files import write_whole

LIMIT = 2 * 10**9
_RESULT = re.compile(r"\d{8}-\d{6}-[a-z-]+-[0-9a-f]{8}\.(png|txt|json)")
_OURS = re.compile(rf"{_RESULT.pattern}|[0-9a-f]{{64}}\.[a-z]+|\.[0-9a-f]{{32}}")
_VERSION = 1
_PATIENCE = 30  # seconds for another process's change
RESULTS, INPUTS = "results", "inputs"
"""Folder of results, and within it the one of what they were made from, where `vd replay` looks for it."""

_NEWEST = "select * from results order by created desc, rowid desc limit ?"
_SIZE = "select (select total(bytes) from results) + (select total(bytes) from inputs) as bytes"


@dataclass(frozen=True)
class New:
    """A result to keep.

    Attributes:
        task: that it was made by.
        title: what it was made from, in words.
        seed: that it was made from.
        content: a PNG, or a text.
        recipe: how it was made, as `vd replay` reads it.
        form: what was filled in, as JSON.
        inputs: what recipe and form refer to, by names of files, each a checksum and a suffix.
    """

    task: str
    title: str
    seed: int
    content: bytes | str
    recipe: Mapping[str, Any]
    form: Mapping[str, Any]
    inputs: Mapping[str, bytes]


@dataclass(frozen=True)
class Entry:
    """A result that is kept.

    Attributes:
        id: also the name of its files.
        created: when, in seconds since 1970.
        task: that it was made by.
        title: what it was made from, in words.
        seed: that it was made from.
        file: a PNG, or a text.
        recipe: a JSON file.
        text: if it is one.
        form: what was filled in.
    """

    id: str
    created: float
    task: str
    title: str
    seed: int
    file: Path
    recipe: Path
    text: str | None
    form: Mapping[str, Any] = field(hash=False)


class History:
    """Results, the newest first. Threads and processes may share it.

    Args:
        folder: made if it is not there.
        limit: bytes of all files; the oldest results go when there are more.

    Raises:
        OSError: if the folder cannot be used.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self.folder = folder.absolute()
        self.limit = limit
        self._lock = RLock()
        self.input("").mkdir(parents=True, exist_ok=True)
        with _as_os_errors():
            self._db = Database(_connected(self.folder / "history.db"))
            self._db.enable_wal()
            with self._changing():
                self._create()
                self._tidy()

    def add(self, new: New) -> Entry:
        """Keeps a result, whole or not at all, and lets go of the oldest where there are too many.

        Raises:
            OSError: if it cannot be written.
        """
        now = time.time()
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{new.task}-{uuid4().hex[:8]}"
        text = new.content if isinstance(new.content, str) else None
        content = new.content.encode() if isinstance(new.content, str) else new.content
        recipe = json.dumps(new.recipe, indent=2, ensure_ascii=False).encode()
        row = {"id": name, "created": now, "task": new.task, "title": new.title, "seed": new.seed}
        row |= {"text": text, "form": json.dumps(new.form), "bytes": len(content) + len(recipe)}
        entry = self._entry(row)
        written = [entry.file, entry.recipe]
        try:
            with self._changing():
                for key, value in new.inputs.items():
                    if not self.input(key).exists():
                        written.append(self.input(key))
                        write_whole(self.input(key), value)
                    self._db.table("inputs").insert({"name": key, "bytes": len(value)}, ignore=True)
                    self._db.table("uses").insert({"result": name, "input": key})
                write_whole(entry.file, content)
                write_whole(entry.recipe, recipe)
                self._db.table("results").insert(row)
                self._shrink()
        except BaseException:
            _remove(written)
            raise
        if not entry.file.exists():
            raise OSError(f"The history may not be larger than {self.limit} bytes, and one result is.")
        return entry

    def entries(self, most: int = 200) -> list[Entry]:
        """The newest results whose files are there; the rows of others are dropped."""
        with self._lock, _as_os_errors():
            found = [self._entry(row) for row in self._db.query(_NEWEST, [most])]
        whole = [entry for entry in found if _is_whole(entry)]
        if len(whole) < len(found):
            with self._changing():
                self._forget([entry.id for entry in found if entry not in whole])
        return whole

    def delete(self, identifier: str) -> None:
        """Lets go of a result, and of what only it was made from."""
        with self._changing():
            self._forget([identifier])

    def clear(self) -> None:
        """Lets go of everything."""
        with self._changing():
            self._forget([row["id"] for row in self._db.table("results").rows])

    def input(self, name: str) -> Path:
        """The file of an input."""
        return self.folder / RESULTS / INPUTS / name

    def is_result(self, file: Path) -> bool:
        """Whether a path is the one of a result or its recipe, by its name alone: there may be no such file."""
        return file.parent == self.folder / RESULTS and _RESULT.fullmatch(file.name) is not None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        with self._lock:
            return int(next(self._db.query(_SIZE))["bytes"])

    @property
    def count(self) -> int:
        """Results that are kept."""
        with self._lock:
            return self._db.table("results").count

    def close(self) -> None:
        """Lets go of the table."""
        with self._lock:
            self._db.close()

    # ---- details ----

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time, of all processes; one that fails leaves the table as it was."""
        with self._lock, _as_os_errors():
            self._db.conn.execute("begin immediate")
            try:
                yield
                self._db.conn.commit()
            except BaseException:
                self._db.conn.rollback()
                raise

    def _create(self) -> None:
        (version,) = self._db.execute("pragma user_version").fetchone()
        if version not in (0, _VERSION):
            raise OSError(f"The history in {self.folder} is of another version: choose another folder with --history.")
        self._db.execute(f"pragma user_version = {_VERSION}")
        columns = {
            "id": str,
            "created": float,
            "task": str,
            "title": str,
            "seed": int,
            "text": str,
            "form": str,
            "bytes": int,
        }
        self._db.table("results").create(columns, pk="id", if_not_exists=True)
        self._db.table("inputs").create({"name": str, "bytes": int}, pk="name", if_not_exists=True)
        self._db.table("uses").create({"result": str, "input": str}, pk=("result", "input"), if_not_exists=True)

    def _tidy(self) -> None:
        """Lets go of rows without files, and of files without rows, as a process that was killed leaves them."""
        entries = [self._entry(row) for row in self._db.table("results").rows]
        self._forget([entry.id for entry in entries if not _is_whole(entry)])
        known = {self.input(row["name"]) for row in self._db.table("inputs").rows}
        known |= {file for entry in entries for file in (entry.file, entry.recipe)}
        found = (file for folder in (self.folder / RESULTS, self.input("")) for file in folder.iterdir())
        _remove(file for file in found if _OURS.fullmatch(file.name) and file not in known)

    def _shrink(self) -> None:
        while self.size > self.limit:
            oldest = next(self._db.query("select id from results order by created, rowid limit 1"))
            self._forget([oldest["id"]])

    def _forget(self, identifiers: Iterable[str]) -> None:
        for identifier in identifiers:
            for row in list(self._db.table("results").rows_where("id = ?", [identifier])):
                entry = self._entry(row)
                _remove([entry.file, entry.recipe])
            self._db.table("results").delete_where("id = ?", [identifier])
            self._db.table("uses").delete_where("result = ?", [identifier])
        unused = list(self._db.table("inputs").rows_where("name not in (select input from uses)"))
        self._db.table("inputs").delete_where("name not in (select input from uses)")
        _remove(self.input(row["name"]) for row in unused)

    def _entry(self, row: Mapping[str, Any]) -> Entry:
        shown = {name: row[name] for name in ("id", "created", "task", "title", "seed", "text")}
        place = self.folder / RESULTS / row["id"]
        file = place.with_suffix(".png" if row["text"] is None else ".txt")
        return Entry(**shown, file=file, recipe=place.with_suffix(".json"), form=json.loads(row["form"]))


def default_folder() -> Path:
    """Where results are kept, where the user says nothing else."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "versatile-diffusion" / "history"


def _connected(file: Path) -> sqlite3.Connection:
    """To a table whose transactions are begun by hand, from any thread."""
    return sqlite3.connect(file, timeout=_PATIENCE, check_same_thread=False, isolation_level=None)


def _is_whole(entry: Entry) -> bool:
    return entry.file.exists() and entry.recipe.exists()


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """A table that cannot be written is a file that cannot be written."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise OSError(f"Cannot keep the history: {error}.") from error
