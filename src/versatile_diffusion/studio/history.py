"""Results that survive a restart: a table in SQLite, and files beside it."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any
from uuid import uuid4

from sqlite_utils import Database

from versatile_diffusion._moved import former_names
from versatile_diffusion.files import write_whole
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT

__getattr__ = former_names(__name__, {"Entry": f"{__name__}:HistoryEntry", "New": f"{__name__}:NewResult"})

LIMIT = 2 * 10**9
_RESULT = re.compile(r"\d{8}-\d{6}-[a-z0-9-]+-[0-9a-f]{8}\.[a-z0-9]+")
_OURS = re.compile(rf"{_RESULT.pattern}|[0-9a-f]{{64}}\.[a-z]+|\.[0-9a-f]{{32}}")
_VERSION = 1
_PATIENCE = 30  # seconds for another process's change
RESULTS, INPUTS = "results", "inputs"
"""Folder of results, and within it the one of what they were made from, where `vd replay` looks for it."""

_LATER_COLUMNS = {"modality", "suffix"}
"""Columns that the first histories do not have: their results are images and texts, which are told apart by `text`."""
_NEWEST = "select * from results order by created desc, rowid desc limit ?"
_SIZE = "select (select total(bytes) from results) + (select total(bytes) from inputs) as bytes"


@dataclass(frozen=True)
class NewResult:
    """A result to keep.

    Attributes:
        task: the key of the task that it was made by.
        title: what it was made from, in words.
        seed: the seed that it was made from.
        modality: what it is, such as "image".
        suffix: of its file.
        content: the content of a file, or a text.
        record: how it was made, as `vd replay` reads it.
        form: what was filled in, as JSON.
        inputs: what record and form refer to, by names of files, each a checksum and a suffix.
    """

    task: str
    title: str
    seed: int
    modality: str
    suffix: str
    content: bytes | str
    record: Mapping[str, object]
    form: Mapping[str, object]
    inputs: Mapping[str, bytes]


@dataclass(frozen=True)
class HistoryEntry:
    """A result that is kept.

    Attributes:
        id: its name, which is also the one of its files.
        created: when it was made, in seconds since 1970.
        task: the key of the task that it was made by.
        title: what it was made from, in words.
        seed: the seed that it was made from.
        modality: what it is, such as "image".
        file: the result itself.
        record: a JSON file that says how it was made.
        text: the result, if it is words.
        form: what was filled in.
    """

    id: str
    created: float
    task: str
    title: str
    seed: int
    modality: str
    file: Path
    record: Path
    text: str | None
    form: Mapping[str, object] = field(hash=False)


class History:
    """Results that are kept in a folder, the newest first. Threads and processes may share it.

    Args:
        folder: where they are kept; it is made if it is not there.
        limit: how many bytes all files may have; the oldest results go when there are more.

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

    def add(self, new: NewResult) -> HistoryEntry:
        """Keeps a result, whole or not at all, and deletes the oldest ones where there are too many.

        Raises:
            OSError: if it cannot be written.
        """
        now = time.time()
        name = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{new.task}-{uuid4().hex[:8]}"
        text = new.content if isinstance(new.content, str) else None
        content = new.content.encode() if isinstance(new.content, str) else new.content
        record = json.dumps(new.record, indent=2, ensure_ascii=False).encode()
        row: dict[str, Any] = {"id": name, "created": now, "task": new.task, "title": new.title, "seed": new.seed}
        row |= {"text": text, "form": json.dumps(new.form), "bytes": len(content) + len(record)}
        row |= {"modality": new.modality, "suffix": new.suffix}
        entry = self._entry(row)
        written = [entry.file, entry.record]
        try:
            with self._changing():
                for key, value in new.inputs.items():
                    if not self.input(key).exists():
                        written.append(self.input(key))
                        write_whole(self.input(key), value)
                    self._db.table("inputs").insert({"name": key, "bytes": len(value)}, ignore=True)
                    self._db.table("uses").insert({"result": name, "input": key})
                write_whole(entry.file, content)
                write_whole(entry.record, record)
                self._db.table("results").insert(row)
                self._shrink()
        except BaseException:
            _remove(written)
            raise
        if not entry.file.exists():
            raise OSError(f"The history may not be larger than {self.limit} bytes, and one result is.")
        return entry

    def entries(self, most: int = 200) -> list[HistoryEntry]:
        """Returns the newest results whose files are there, and drops the rows of others."""
        with self._lock, _as_os_errors():
            found = [self._entry(row) for row in self._rows(_NEWEST, most)]
        whole = [entry for entry in found if _is_whole(entry)]
        if len(whole) < len(found):
            with self._changing():
                self._forget([entry.id for entry in found if entry not in whole])
        return whole

    def delete(self, identifier: str) -> None:
        """Deletes a result, and what only it was made from."""
        with self._changing():
            self._forget([identifier])

    def clear(self) -> None:
        """Deletes all results."""
        with self._changing():
            self._forget([row["id"] for row in self._db.table("results").rows])

    def input(self, name: str) -> Path:
        """Returns the file of an input, by its name."""
        return self.folder / RESULTS / INPUTS / name

    def is_result(self, file: Path) -> bool:
        """Whether a path is that of a result or of its record, judged by its name: there may be no such file."""
        return file.parent == self.folder / RESULTS and _RESULT.fullmatch(file.name) is not None

    @property
    def size(self) -> int:
        """How many bytes all files have."""
        with self._lock:
            return int(self._rows(_SIZE)[0]["bytes"])

    @property
    def count(self) -> int:
        """How many results are kept."""
        with self._lock:
            return self._db.table("results").count

    def close(self) -> None:
        """Closes the table."""
        with self._lock:
            self._db.close()

    # ---- details ----

    @contextmanager
    def _changing(self) -> Generator[None]:
        """Makes one change at a time, of all processes; one that fails leaves the table as it was."""
        with self._lock, _as_os_errors():
            self._db.conn.execute("begin immediate")
            try:
                yield
                self._db.conn.commit()
            except BaseException:
                self._db.conn.rollback()
                raise

    def _create(self) -> None:
        version = self._rows("pragma user_version")[0]["user_version"]
        if version not in (0, _VERSION):
            raise OSError(f"The history in {self.folder} is of another version: choose another folder with --history.")
        self._db.conn.execute(f"pragma user_version = {_VERSION}")
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
        for column in _LATER_COLUMNS - self._db.table("results").columns_dict.keys():
            self._db.table("results").add_column(column, str)
        self._db.table("inputs").create({"name": str, "bytes": int}, pk="name", if_not_exists=True)
        self._db.table("uses").create({"result": str, "input": str}, pk=("result", "input"), if_not_exists=True)

    def _tidy(self) -> None:
        """Deletes rows without files, and files without rows, as a process that was killed leaves them."""
        entries = [self._entry(row) for row in self._db.table("results").rows]
        self._forget([entry.id for entry in entries if not _is_whole(entry)])
        known = {self.input(row["name"]) for row in self._db.table("inputs").rows}
        known |= {file for entry in entries for file in (entry.file, entry.record)}
        found = (file for folder in (self.folder / RESULTS, self.input("")) for file in folder.iterdir())
        _remove(file for file in found if _OURS.fullmatch(file.name) and file not in known)

    def _shrink(self) -> None:
        while self.size > self.limit:
            self._forget([self._rows("select id from results order by created, rowid limit 1")[0]["id"]])

    def _forget(self, identifiers: Iterable[str]) -> None:
        for identifier in identifiers:
            for row in self._rows("select * from results where id = ?", identifier):
                entry = self._entry(row)
                _remove([entry.file, entry.record])
            self._db.conn.execute("delete from results where id = ?", [identifier])
            self._db.conn.execute("delete from uses where result = ?", [identifier])
        unused = self._rows("select name from inputs where name not in (select input from uses)")
        self._db.conn.execute("delete from inputs where name not in (select input from uses)")
        _remove(self.input(row["name"]) for row in unused)

    def _rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """The rows that a query finds, by the names of columns."""
        cursor = self._db.conn.execute(sql, values)
        return [dict(zip((column[0] for column in cursor.description), row, strict=True)) for row in cursor]

    def _entry(self, row: Mapping[str, Any]) -> HistoryEntry:
        known = IMAGE if row["text"] is None else TEXT
        place = self.folder / RESULTS / row["id"]
        return HistoryEntry(
            **{name: row[name] for name in ("id", "created", "task", "title", "seed", "text")},
            modality=row["modality"] or known.name,
            file=place.with_suffix(row["suffix"] or known.codec.suffix),
            record=place.with_suffix(".json"),
            form=json.loads(row["form"]),
        )


def default_folder() -> Path:
    """Returns the folder where results are kept unless the user names another."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "versatile-diffusion" / "history"


def _connected(file: Path) -> sqlite3.Connection:
    """A connection whose transactions are begun by hand, from any thread."""
    return sqlite3.connect(file, timeout=_PATIENCE, check_same_thread=False, isolation_level=None)


def _is_whole(entry: HistoryEntry) -> bool:
    return entry.file.exists() and entry.record.exists()


def _remove(files: Iterable[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)


@contextmanager
def _as_os_errors() -> Generator[None]:
    """Raises what SQLite says of its table as an OSError of its file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise OSError(f"Cannot keep the history: {error}.") from error
