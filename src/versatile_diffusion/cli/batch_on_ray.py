"""`vd batch --ray`: copies of the model on a Ray cluster make batches, and this process writes what they send.

Nothing is lost with a node: Ray has its batches made again by others, which make the same of them.
"""
# pyright: strict

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from logging import ERROR, getLogger
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from versatile_diffusion.cli.batch_job import ListJob, contexts_of, opened
from versatile_diffusion.extras import extra, silence_imports
from versatile_diffusion.files import write_whole

if TYPE_CHECKING:
    from versatile_diffusion.applications.prompt_lists import WantedOutput
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline

Row = dict[str, Any]

_BLOCKS = 10_000
"""Of batches at most: what a node had begun of a block when it died is made again."""


class BatchActor:
    """What an actor is made of: it opens the model once, and makes the batches that it is sent.

    Args:
        job: what to make.
        contexts: the modalities that it conditions on.
        folder: from which paths are named, if it is there, too.
    """

    def __init__(self, job: ListJob, contexts: Sequence[str], folder: str) -> None:
        silence_imports()
        if os.path.isdir(folder):
            os.chdir(folder)
        self.job, self.contexts = job, contexts

    @cached_property
    def pipe(self) -> VersatileDiffusionPipeline:
        """The model, which stays open."""
        return opened(self.job.how.options, self.contexts)

    def __call__(self, row: Row) -> list[Row]:
        """The files of a batch as rows, or what went wrong as one without a name.

        An error that is raised here Ray would tell of with all of its own traceback.
        """
        try:
            return self._made(pickle.loads(row["batch"]))
        except Exception as error:
            return [_row("", str(error).encode())]

    def _made(self, batch: Sequence[WantedOutput]) -> list[Row]:
        with TemporaryDirectory() as folder:
            job = replace(self.job, output=Path(folder))
            job.run([batch], self.pipe)
            outputs = {job.file(wanted) for wanted in batch}
            files = [file for file in sorted(job.output.rglob("*")) if file.is_file()]
            return [
                _row(file.relative_to(folder).as_posix(), file.read_bytes(), outputs=int(file in outputs))
                for file in files
            ]


def _row(name: str, content: bytes, outputs: int = 0) -> Row:
    """A file by its name in the folder of all; it counts as 1 output, or as 0 if it lies beside one."""
    return {"name": name, "content": content, "outputs": outputs}


def make_on_ray(
    job: ListJob, batches: Sequence[Sequence[WantedOutput]], copies: int, on_made: Callable[[int], object]
) -> int:
    """Makes what is missing of some batches, and returns how many outputs that were.

    Args:
        job: what to make, and where to.
        batches: of `prompt_lists.batches`.
        copies: of the model, at most; each has a GPU, if the cluster has any, or else a CPU.
        on_made: called with the number of outputs of each file that arrives, which is 0 or 1.

    Raises:
        ImportError: if Ray is not installed.
        RuntimeError: if a copy could not open the model, or make a batch; the message says why.
    """
    with extra("ray", "vd batch --ray"):
        import ray
        from ray.data import ActorPoolStrategy, DataContext
        from ray.exceptions import RayError
    untyped = cast(Any, ray)
    if not untyped.is_initialized():
        untyped.init(logging_level="warning")
    DataContext.get_current().enable_progress_bars = False
    getLogger("ray.data").setLevel(ERROR)  # it tells how it does what it does
    rows = [{"batch": pickle.dumps(batch)} for batch in batches]
    on_gpus = job.how.options.device != "cpu" and untyped.cluster_resources().get("GPU", 0) > 0
    files = untyped.data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS)).flat_map(
        BatchActor,
        fn_constructor_args=(job, contexts_of(batches), os.getcwd()),
        compute=ActorPoolStrategy(min_size=1, max_size=copies, initial_size=copies),
        **({"num_gpus": 1} if on_gpus else {"num_cpus": 1}),
    )
    try:
        return _written(job, files.iter_rows(), on_made)
    except RayError as error:
        raise RuntimeError(f"Ray could not go on: {error}") from error


def _written(job: ListJob, rows: Iterable[Row], on_made: Callable[[int], object]) -> int:
    """Writes the files that are not there yet, and returns how many outputs these were."""
    made = 0
    for row in rows:
        if not row["name"]:
            raise RuntimeError(row["content"].decode())
        file = job.output / row["name"]
        if not file.exists():
            write_whole(file, row["content"])
            made += row["outputs"]
        on_made(row["outputs"])
    return made
