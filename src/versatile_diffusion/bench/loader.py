"""Loads a flow and prints what that took as JSON: `python -m versatile_diffusion.bench.loader FOLDER FLOW DTYPE`.

A process of its own, since the highest memory is that of a process. Linux only: it asks /proc.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.bench.process import status, watching
from versatile_diffusion.devices import DTYPES


def main(folder: str, flow: str, dtype: str) -> None:
    """Loads a flow, and prints how many seconds that took and by how many bytes memory grew at most."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the imports
    resident, anonymous = status("VmRSS"), status("RssAnon")
    begun = time.perf_counter()
    with watching("RssAnon") as seen:
        pipe = VersatileDiffusionPipeline.from_pretrained(folder, torch_dtype=DTYPES[dtype], flows=[flow])
    seconds = time.perf_counter() - begun
    found = {"peak": status("VmHWM") - resident, "peak_anonymous": max(seen) - anonymous, "seconds": seconds}
    print(json.dumps(found))
    del pipe


if __name__ == "__main__":
    main(*sys.argv[1:])
