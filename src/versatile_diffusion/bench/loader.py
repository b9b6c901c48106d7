"""Loads a flow and prints what that took as JSON: `python -m versatile_diffusion.bench.loader FOLDER FLOW DTYPE`.

A process of its own, since the highest memory is that of a process. Linux only: it asks /proc.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from versatile_diffusion.devices import DTYPES
from versatile_diffusion.pipeline import VersatileDiffusionPipeline

_STATUS = Path("/proc/self/status")
_INTERVAL = 0.005


def main(folder: str, flow: str, dtype: str) -> None:
    """Loads and prints: seconds, and how many bytes memory grew by at most, with and without mapped files."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the imports
    resident, anonymous = _status("VmRSS"), _status("RssAnon")
    begun = time.perf_counter()
    with _watching("RssAnon") as seen:
        pipe = VersatileDiffusionPipeline.from_pretrained(folder, torch_dtype=DTYPES[dtype], flows=[flow])
    seconds = time.perf_counter() - begun
    found = {"peak": _status("VmHWM") - resident, "peak_anonymous": max(seen) - anonymous, "seconds": seconds}
    print(json.dumps(found))
    del pipe


@contextmanager
def _watching(name: str) -> Iterator[list[int]]:
    """Looks at an entry again and again: the system keeps the highest value of the whole memory only."""
    done, seen = threading.Event(), [_status(name)]

    def watch() -> None:
        while not done.wait(_INTERVAL):
            seen.append(_status(name))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        seen.append(_status(name))
        done.set()
        watcher.join()


def _status(name: str) -> int:
    """An entry of the process's status, in bytes."""
    entry = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    if entry is None:
        raise OSError(f"{_STATUS} does not tell {name}.")
    return 1024 * int(entry[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
