"""Training on more samples than are encoded first: how soon it begins, what memory it takes, and what a stop costs.

python benchmarks/streaming.py --samples 200000 --json streaming.json
python benchmarks/streaming.py --samples 20000 --start runs/tiny/model --folder /tmp/streaming
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import psutil
import typer
from PIL import Image

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SIDE, IN_A_TAR = 32, 2000
EARLY, LATE = 20, 200
"""Steps after which the memory is looked at."""


@dataclass
class Streaming:
    """What a run took, and what one did that went on after it.

    Attributes:
        samples: in the data set.
        first_step: seconds until the first step was done, imports left out.
        first_step_computing: seconds of a processor that it took, which others on the machine do not change.
        memory: MiB of the process after so many steps.
        read: samples that were decoded by then.
        resumed_first_step: the same seconds of the run that went on.
        resumed_read: samples that it had decoded by then.
    """

    samples: int
    first_step: float = 0.0
    first_step_computing: float = 0.0
    memory: dict[int, float] = field(default_factory=dict[int, float])
    read: dict[int, int] = field(default_factory=dict[int, int])
    resumed_first_step: float = 0.0
    resumed_read: int = 0


def write_tars(folder: Path, count: int) -> None:
    """Writes small pictures with captions into tars of webdataset: a few pictures again and again, which is quick."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures: list[bytes] = []
    for colour in COLOURS:
        file = io.BytesIO()
        Image.new("RGB", (SIDE, SIDE), colour).save(file, "PNG")
        pictures.append(file.getvalue())
    for start in range(0, count, IN_A_TAR):
        with tarfile.open(folder / f"{start // IN_A_TAR:05d}.tar", "w") as tar:
            for index in range(start, min(start + IN_A_TAR, count)):
                kind = index % len(COLOURS)
                for suffix, content in (("png", pictures[kind]), ("txt", f"a {COLOURS[kind]} tent".encode())):
                    member = tarfile.TarInfo(f"{index:07d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def measure(data: Path, run: Path, start: str | None, samples: int) -> Streaming:
    """Trains, stops, and goes on."""
    from versatile_diffusion.training.loop.trainer import Trainer
    from versatile_diffusion.training.own_data.finetuning import FineTuning
    from versatile_diffusion.training.samples import sample_reader
    from versatile_diffusion.training.settings.training_settings import TrainingSettings

    found, process = Streaming(samples), psutil.Process()
    read, update, clock, begun = [0], Trainer.update, [0.0, 0.0], [0.0, 0.0]
    plain = sample_reader.read_sample

    def counted(*arguments: object) -> object:
        read[0] += 1
        return plain(*arguments)  # pyright: ignore[reportArgumentType] - passed on as they came

    def watched(trainer: Trainer[object]) -> dict[str, float]:  # pyright: ignore[reportInvalidTypeArguments] - of any task
        values = update(trainer)  # pyright: ignore[reportArgumentType] - of any task
        if not begun[0]:
            begun[:] = [time.perf_counter() - clock[0], time.process_time() - clock[1]]
        if trainer.step in (EARLY, LATE):
            found.memory[trainer.step] = round(process.memory_info().rss / 2**20, 1)
            found.read[trainer.step] = read[0]
        return values

    sample_reader.read_sample, Trainer.update = counted, watched  # pyright: ignore[reportAttributeAccessIssue] - on purpose
    options = {} if start is None else {"start": start}
    for steps in (LATE, LATE + 1):
        chosen = TrainingSettings(data=str(data), steps=steps, sheet_every=10_000, **options)  # pyright: ignore - checked there
        clock[:], begun[0], read[0] = [time.perf_counter(), time.process_time()], 0.0, 0
        FineTuning(chosen, run, print).train()
        if steps == LATE:
            found.first_step, found.first_step_computing = round(begun[0], 2), round(begun[1], 2)
        else:
            found.resumed_first_step, found.resumed_read = round(begun[0], 2), read[0]
    return found


def main(
    samples: Annotated[int, typer.Option(min=1, help="In the data set that is made.")] = 200_000,
    start: Annotated[str | None, typer.Option(help="The model to begin from; the bundled one by default.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Where the data set and the run go.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the figures go.")] = None,
) -> None:
    """Measures training on a data set that is made for it."""
    place = Path(tempfile.mkdtemp()) if folder is None else folder
    data = place / f"tars-{samples}"
    if not data.exists():
        write_tars(data, samples)
    found = measure(data, place / "run", start, samples)
    print(json.dumps(asdict(found), indent=2))
    if json_file is not None:
        json_file.write_text(json.dumps(asdict(found), indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
