"""Who uses the studio, and which files each of them may read.

A visitor is a browser, known by a cookie that only this process can sign. It may read what it uploaded, what it was
given (such as the image of an example), and the results in the history; every other path is answered in the same way,
whether there is a file or not.
"""

from __future__ import annotations

import hmac
import os
import stat
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes, token_hex
from threading import Lock

from versatile_diffusion.studio.history import History

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # Windows has neither


class UnreadableFile(ValueError):
    """A file that the visitor may not read, or that is not there; the message does not tell which."""

    def __init__(self) -> None:
        super().__init__("One of the files is not here, or no longer: choose it again.")


class VisitorFiles:
    """The files that visitors may read.

    Args:
        folder: where uploads lie, and the files that visitors are given.
        histories: whose results everybody may read.
    """

    def __init__(self, folder: Path, histories: Sequence[History] = ()) -> None:
        self._folder = folder
        self._histories = histories
        self._owned: dict[str, set[str]] = {}
        self._lock = Lock()

    def own(self, visitor: str, path: str) -> None:
        """Lets a visitor read a file in the folder from now on."""
        with self._lock:
            owned = self._owned.setdefault(visitor, set())
            if path not in owned:
                owned -= {known for known in owned if not os.path.lexists(known)}  # gradio deletes what is a day old
                owned.add(path)

    def may_read(self, visitor: str, path: str) -> bool:
        """Whether a visitor may read a path. Nothing is asked of the file system about a path of others."""
        if path in self._owned.get(visitor, ()):
            return self._is_where_it_was(path)
        return any(history.is_result(Path(path)) for history in self._histories) and _is_plain(path)

    def read(self, visitor: str, path: str) -> bytes:
        """The content of a file.

        Raises:
            UnreadableFile: if the visitor may not read it, or it is not there.
        """
        if not self.may_read(visitor, path):
            raise UnreadableFile
        try:
            with open(os.open(path, _READ), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise UnreadableFile
                return file.read()
        except OSError as error:
            raise UnreadableFile from error

    def write(self, visitor: str, name: str, content: bytes) -> str:
        """Makes a file that a visitor may read, and returns its path."""
        path = Path(tempfile.mkdtemp(dir=self._folder), Path(name).name)
        path.write_bytes(content)
        self.own(visitor, str(path))
        return str(path)

    def _is_where_it_was(self, path: str) -> bool:
        """Whether it is a file, and neither it nor a folder on the way has become a link."""
        inside = os.path.relpath(path, self._folder)
        return os.path.realpath(path) == os.path.join(os.path.realpath(self._folder), inside) and _is_plain(path)


@dataclass(frozen=True)
class Visitor:
    """One visitor.

    Attributes:
        name: cannot be guessed.
        files: of all visitors.
    """

    name: str
    files: VisitorFiles

    def may_read(self, path: str) -> bool:
        """Whether this visitor may read a path."""
        return self.files.may_read(self.name, path)

    def read(self, path: str) -> bytes:
        """The content of a file. Raises `UnreadableFile` if this visitor may not read it, or it is not there."""
        return self.files.read(self.name, path)

    def write(self, name: str, content: bytes) -> str:
        """Makes a file that this visitor may read, and returns its path."""
        return self.files.write(self.name, name, content)

    def own(self, path: str) -> None:
        """Lets this visitor read a file that it uploaded."""
        self.files.own(self.name, path)


class VisitorCookies:
    """Knows visitors by their cookies.

    Args:
        files: what they may read.
    """

    def __init__(self, files: VisitorFiles) -> None:
        self._files = files
        self._secret = token_bytes(32)

    def known(self, cookies: Mapping[str, str], host: str) -> Visitor | None:
        """The visitor whose cookie came along; None if there is none that this process has signed."""
        name, _, signature = cookies.get(_cookie_name(host), "").partition(".")
        is_ours = hmac.compare_digest(signature.encode(), self._signed("visitor", name).encode())
        return Visitor(name, self._files) if is_ours else None

    def new(self) -> Visitor:
        """A visitor who was not here before."""
        return Visitor(token_hex(16), self._files)

    def cookie(self, visitor: Visitor, host: str) -> str:
        """The value of the header `Set-Cookie` that makes a visitor known."""
        value = f"{visitor.name}.{self._signed('visitor', visitor.name)}"
        return f"{_cookie_name(host)}={value}; Path=/; HttpOnly; SameSite=Lax"

    def private(self, visitor: Visitor, name: str) -> str:
        """What a name that a browser chose is called here: different for each visitor, so that nobody meets another's.

        Args:
            visitor: who chose it.
            name: such as the one of a session.
        """
        return self._signed("name", visitor.name, name)

    def _signed(self, *parts: str) -> str:
        return hmac.digest(self._secret, "/".join(parts).encode("utf-8", "surrogatepass"), "sha256").hex()


def _cookie_name(host: str) -> str:
    """Cookies are not kept apart by port, and there may be a studio at each."""
    return f"vd-studio-{host.rpartition(':')[2] if ':' in host else '80'}"


def _is_plain(path: str) -> bool:
    """Whether there is a file, not a link, folder or device."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):  # ValueError: a null character
        return False
