"""How long `vd train` takes to its first step on many samples in tars, and the memory that it holds. Linux only.

    python benchmarks/large_data.py --samples 200000

Small pictures with captions are written to tars, which takes a minute. Then a LoRA of the bundled model is trained on
them for some steps, is stopped by Ctrl-C, and goes on: both times the seconds from the command to its first step are
told, imports among them, and the memory of the process over time.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import psutil
from PIL import Image

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
IN_A_TAR = 5000
STOPPED_AFTER = 20
_STEP = re.compile(rb"(\d+)/\d+")


def main() -> None:
    """Prints what was measured of both runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        shards, run = Path(place, "shards"), Path(place, "run")
        write_tars(shards, arguments.samples)
        settings = ["--steps", arguments.steps, "--batch-size", 4, "--flows", "text-to-image", "--validation", 0]
        command = [sys.executable, "-m", "versatile_diffusion.cli", "train", shards, *settings, "--output", run]
        for which, last in (("at first", STOPPED_AFTER), ("going on", arguments.steps)):
            first, memory = trained(list(map(str, command)), last)
            held = ", ".join(f"{each / 2**30:.2f}" for each in memory)
            print(f"{which}: first step after {first:.1f} s; GiB held over time: {held}")


def write_tars(place: Path, samples: int) -> None:
    """Writes pictures of one colour, with captions, as webdataset has them."""
    place.mkdir()
    contents: list[tuple[bytes, bytes]] = []
    for color in COLORS:
        file = io.BytesIO()
        Image.new("RGB", (64, 64), color).save(file, "PNG")
        contents.append((file.getvalue(), f"a {color} house".encode()))
    kinds = cycle(contents)
    for start in range(0, samples, IN_A_TAR):
        with tarfile.open(place / f"{start // IN_A_TAR:05d}.tar", "w") as tar:
            for number in range(start, min(start + IN_A_TAR, samples)):
                for suffix, content in zip(("png", "txt"), next(kinds), strict=True):
                    member = tarfile.TarInfo(f"{number:08d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def trained(command: list[str], last: int) -> tuple[float, list[int]]:
    """Returns the seconds to the first step of a run that is stopped at one, and the bytes held at ten moments."""
    begun, first, memory, stopped = time.perf_counter(), 0.0, list[int](), False
    shown = os.environ | {"TTY_COMPATIBLE": "1", "COLUMNS": "120"}  # the bar is drawn as in a terminal
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=shown) as process:
        told = steps(process)
        before = next(told, 0)
        for step in told:
            if not first and step > before:
                first = time.perf_counter() - begun
            memory.append(psutil.Process(process.pid).memory_info().rss)
            if step >= last and not stopped:  # a second Ctrl-C would not wait for the checkpoint
                process.send_signal(signal.SIGINT)
                stopped = True
    return first, memory[:: max(1, len(memory) // 10)]


def steps(process: subprocess.Popen[bytes]) -> Iterator[int]:
    """The steps that a progress bar tells, each time it is drawn."""
    assert process.stdout is not None
    while content := process.stdout.read1():
        for found in _STEP.finditer(content):
            yield int(found[1])


if __name__ == "__main__":
    main()
