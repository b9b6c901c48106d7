"""What a process holds in memory. Linux only: it asks /proc."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")


@contextmanager
def watching(name: str, interval: float = 0.005) -> Generator[list[int], None, None]:
    """Looks at an entry again and again, since the system keeps the highest value of the whole memory only.

    Args:
        name: The name of the entry, such as "RssAnon".
        interval: Seconds from look to look. Many looks slow down what is watched.

    Yields:
        The values seen so far, in bytes; the list grows while the context is open.
    """
    done, seen = threading.Event(), [status(name)]

    def watch() -> None:
        while not done.wait(interval):
            seen.append(status(name))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        seen.append(status(name))
        done.set()
        watcher.join()


def status(name: str) -> int:
    """Returns an entry of this process's status, in bytes.

    Raises:
        OSError: If the system does not tell it.
    """
    entry = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    if entry is None:
        raise OSError(f"{_STATUS} does not tell {name}.")
    return 1024 * int(entry[1])
