"""A study: pairs of images in a folder, and votes on them in a table of SQLite."""

from __future__ import annotations

import random
import secrets
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from threading import RLock
from typing import Any, Literal

from sqlite_utils import Database

from versatile_diffusion._moved import former_names

__getattr__ = former_names(__name__, {"Pair": f"{__name__}:ImagePair", "Shown": f"{__name__}:ShownPair"})

Choice = Literal["a", "same", "b"]
CHOICES: tuple[Choice, ...] = ("a", "same", "b")
DATABASE = "study.db"
_PATIENCE = 30  # seconds for another process's change


@dataclass(frozen=True)
class ImagePair:
    """Two images of one prompt and one seed, made by the two sides of a study.

    Attributes:
        line: the line of the prompt in its list.
        seed: the seed that both were made from.
        prompt: the words of the prompt; None if it is an image alone.
        given: the file of the prompt's image, relative to the study's folder; None if it has none.
        a: the file of side A's image.
        b: the file of side B's image.
    """

    line: int
    seed: int
    prompt: str | None
    given: str | None
    a: str
    b: str

    @property
    def key(self) -> str:
        """The pair's name in the table, which no other pair of the study has."""
        return f"{self.line}-{self.seed}"


@dataclass(frozen=True)
class ShownPair:
    """A pair as a voter sees it: `a_left` says whether side A's image is on the left."""

    pair: ImagePair
    a_left: bool

    def choice(self, side: str) -> Choice:
        """Returns which side was chosen by "left", "same" or "right"."""
        return "same" if side == "same" else "a" if (side == "left") == self.a_left else "b"


class Study:
    """Pairs of images, and what people voted. Threads and processes may share it; a vote is on disk when it is cast.

    Args:
        folder: where the study lies; it is made if it is not there, unless it must exist.
        must_exist: whether to open only a study that is there.

    Raises:
        ValueError: if there is no study where one must exist.
        OSError: if the file of votes is damaged or cannot be used, now or in a later call.
    """

    def __init__(self, folder: Path, must_exist: bool = True) -> None:
        self.folder, self._file = folder, folder / DATABASE
        if must_exist and not self._file.is_file():
            raise ValueError(f"There is no study in {folder}: make one with vd vote make A B --prompts FILE.")
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = RLock()
        with self._using():
            connection = sqlite3.connect(self._file, timeout=_PATIENCE, check_same_thread=False, isolation_level=None)
            self._db = Database(connection)
            self._db.enable_wal()
            self._create()

    def _create(self) -> None:
        """Makes the tables that are not there yet."""
        sides: dict[str, Any] = {"id": str, "name": str}
        pairs: dict[str, Any] = {"key": str, "line": int, "seed": int, "prompt": str, "given": str, "a": str, "b": str}
        votes: dict[str, Any] = {"voter": str, "pair": str, "choice": str, "a_left": int, "at": float}
        create = {"if_not_exists": True}
        self._table("sides").create(sides, pk="id", **create)
        self._table("pairs").create(pairs, pk="key", **create)
        self._table("votes").create(votes, pk=("voter", "pair"), foreign_keys=[("pair", "pairs", "key")], **create)
        self._table("secrets").create({"id": str, "value": str}, pk="id", **create)
        self._table("secrets").insert({"id": "key", "value": secrets.token_hex(32)}, ignore=True)
        self._secret = bytes.fromhex(self._table("secrets").get("key")["value"])

    def plan(self, names: tuple[str, str], pairs: Sequence[ImagePair]) -> None:
        """Adds pairs to vote on. What is planned already stays as it is."""
        with self._using():
            self._table("sides").insert_all(
                [{"id": side, "name": name} for side, name in zip("ab", names, strict=True)], replace=True
            )
            self._table("pairs").insert_all([{"key": pair.key, **vars(pair)} for pair in pairs], ignore=True)

    @property
    def names(self) -> tuple[str, str]:
        """The names of sides A and B."""
        with self._using():
            found = {row["id"]: row["name"] for row in self._table("sides").rows}
        return found["a"], found["b"]

    @property
    def pairs(self) -> list[ImagePair]:
        """The pairs of which both images are there."""
        with self._using():
            rows = list(self._table("pairs").rows_where(order_by="line, seed"))
        pairs = [ImagePair(**{name: value for name, value in row.items() if name != "key"}) for row in rows]
        return [pair for pair in pairs if (self.folder / pair.a).exists() and (self.folder / pair.b).exists()]

    def votes(self, voter: str | None = None) -> list[dict[str, Any]]:
        """Returns the votes of one voter, or of all, the oldest first."""
        where, values = ("voter = ?", [voter]) if voter is not None else (None, None)
        with self._using():
            return list(self._table("votes").rows_where(where, values, order_by="at, rowid"))

    def order(self, voter: str) -> list[ShownPair]:
        """Returns the pairs as a voter sees them: in an order and on sides of their own, A on the left in half."""
        return arranged(self.pairs, f"{voter} {self._secret.hex()}")

    def vote(self, voter: str, shown: ShownPair, choice: Choice) -> bool:
        """Stores a vote. Returns False, and changes nothing, if that voter has voted on that pair."""
        row = (voter, shown.pair.key, choice, int(shown.a_left), time.time())
        with self._using():
            return self._db.conn.execute("insert or ignore into votes values (?, ?, ?, ?, ?)", row).rowcount == 1

    def undo(self, voter: str) -> bool:
        """Takes the last vote of a voter back. Returns False if there was none."""
        with self._using():
            cast = self.votes(voter)
            if cast:
                self._table("votes").delete((voter, cast[-1]["pair"]))
        return bool(cast)

    def ticket(self, voter: str, pair: ImagePair, what: str) -> str:
        """Returns a name of an image or a pair that tells nothing about it, the same whenever that voter is asked."""
        return blake2b(f"{voter}\0{pair.key}\0{what}".encode(), key=self._secret, digest_size=16).hexdigest()

    def close(self) -> None:
        """Closes the file of votes."""
        self._db.close()

    @contextmanager
    def _using(self) -> Generator[None]:
        """Lets one thread at a time in, and raises what SQLite says as an OSError of its file."""
        with self._lock:
            try:
                yield
            except sqlite3.DatabaseError as error:
                raise OSError(
                    f"Cannot use {self._file}: {error}. If it is damaged, put a copy of it back, or make the study "
                    "anew in another folder."
                ) from error

    def _table(self, name: str) -> Any:
        return self._db[name]


def arranged(pairs: Sequence[ImagePair], key: str) -> list[ShownPair]:
    """Returns pairs in a random order that depends on the key, A on the left in half of them, give or take one."""
    draw = random.Random(key)
    order = draw.sample(list(pairs), len(pairs))
    spare = draw.random() < 0.5
    left = [i % 2 == spare for i in range(len(order))]
    draw.shuffle(left)
    return [ShownPair(pair, a_left) for pair, a_left in zip(order, left, strict=True)]
