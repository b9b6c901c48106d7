"""What a run tells of where it runs: the program, its commit, the hardware, and memory that is held and free."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

import torch

from versatile_diffusion.processes import processes

_STATUS, _MEMORY = Path("/proc/self/status"), Path("/proc/meminfo")


def program() -> list[str]:
    """Returns the words that start `vd` as it was started here: alone, or in several processes."""
    count = int(processes().num_processes)  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType] - accelerate has no types
    if count == 1:
        return ["vd"]
    launch = f"accelerate launch --multi_gpu --num_processes {count} --num_machines 1"
    return [*launch.split(), "-m", "versatile_diffusion.cli"]


def commit() -> str | None:
    """Returns the commit of this package, if it is run from a checkout of its repository."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        found = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def hardware() -> str:
    """Returns the name of what computes."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{models[0] if models else platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def held_memory(device: torch.device) -> int | None:
    """Returns the bytes that this process holds: on a CUDA device of its memory, else of the machine's.

    None where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.memory_reserved(device)
    return _kilobytes(_STATUS, "VmRSS")


def free_memory(device: torch.device) -> int | None:
    """Returns the bytes that may still be had, of a CUDA device or of the machine; None where nobody tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return _kilobytes(_MEMORY, "MemAvailable")


def _kilobytes(file: Path, name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB$", file.read_text(), re.MULTILINE) if file.exists() else None
    return None if found is None else 1024 * int(found[1])
