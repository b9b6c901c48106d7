"""What a run would do, as tables for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.table import Table

from versatile_diffusion.training.own_data.data_survey import DataSurvey
from versatile_diffusion.training.settings.training_settings import TrainingSettings

GIB = 2**30
PROCESSES = (1, 8, 64)
"""Numbers of processes, one a card, for which memory is told."""


@dataclass(frozen=True)
class TrainedParts:
    """Which parameters are trained.

    Attributes:
        groups: how many of each group of layers.
        whole: how many the diffuser has in all, LoRAs left out.
    """

    groups: Mapping[str, int]
    whole: int

    @property
    def count(self) -> int:
        """Parameters that are trained."""
        return sum(self.groups.values())


@dataclass(frozen=True)
class CardMemory:
    """Bytes that a process holds on its card.

    Attributes:
        what: the model and how it is trained.
        checkpointing: whether activations are computed twice instead of kept.
        cards: by the number of processes that share the model out.
        parts: of one process, by what takes them.
    """

    what: str
    checkpointing: bool
    cards: Mapping[int, int]
    parts: Mapping[str, int]


@dataclass(frozen=True)
class StepTime:
    """How long an update takes here.

    Attributes:
        seconds: of one, measured; None where none was taken.
        why: it was not.
        hardware: that it was taken on.
    """

    seconds: float | None
    why: str
    hardware: str


@dataclass(frozen=True)
class TimedStage:
    """A stage of a run that has several.

    Attributes:
        name: of the stage.
        steps: that it takes.
        batch: samples that a process computes at once, of each flow where there are flows.
        time: of a step.
    """

    name: str
    steps: int
    batch: int
    time: StepTime

    @property
    def seconds(self) -> float | None:
        """How long all of its steps take."""
        return None if self.time.seconds is None else self.steps * self.time.seconds


@dataclass(frozen=True)
class DiskNeed:
    """Bytes on disk.

    Attributes:
        cache: latents and context tokens; None if nobody can tell how many samples there are.
        checkpoint: one of those that are kept for going on.
        checkpoints: that lie there at most.
        result: what was trained.
        free: what there is.
    """

    cache: int | None
    checkpoint: int
    checkpoints: int
    result: int
    free: int

    @property
    def needed(self) -> int:
        """What a run takes at most."""
        return (self.cache or 0) + self.checkpoint * self.checkpoints + self.result


@dataclass(frozen=True)
class RunPlan:
    """What `vd train DATA` would do.

    Attributes:
        settings: of the run.
        data: what was found.
        flows: that are learnt.
        trained: which parameters.
        memory: of the run's model, and of the official one.
        time: of a step; of the last stage, where there are several.
        stages: in their order, of a run that has several.
        disk: what is needed and free.
        processes: that share the work here.
    """

    settings: TrainingSettings
    data: DataSurvey
    flows: Sequence[str]
    trained: TrainedParts
    memory: Sequence[CardMemory]
    time: StepTime
    stages: Sequence[TimedStage]
    disk: DiskNeed
    processes: int

    @property
    def batch(self) -> int:
        """Samples of each flow in an update, of all processes."""
        return self.settings.batch_size * self.processes

    @property
    def seconds(self) -> float | None:
        """How long all steps take; None where that was not measured."""
        if not self.stages:
            return None if self.time.seconds is None else self.settings.steps * self.time.seconds
        known = [each.seconds for each in self.stages if each.seconds is not None]
        return sum(known) if len(known) == len(self.stages) else None

    def as_dict(self) -> dict[str, object]:
        """Returns all figures as JSON can hold them; sizes in bytes, times in seconds."""
        seconds, samples = self.time.seconds, self.data.samples
        seen = self.settings.steps * self.batch
        return {
            "data": {
                **self.data.overview.as_dict(),
                "entries": self.data.entries,
                "usable": samples,
                "buckets": dict(self.data.buckets.most_common()),
                "taught": dict(self.data.flows),
            },
            "flows": list(self.flows),
            "trained": {
                "parameters": self.trained.count,
                "of": self.trained.whole,
                "groups": dict(self.trained.groups),
            },
            "memory": [asdict(each) for each in self.memory],
            "step": {**asdict(self.time), "samples_per_second": self.batch / seconds if seconds else None},
            "plan": {
                "steps": self.settings.steps,
                "batch": self.batch,
                "samples_of_each_flow": seen,
                "times_through_the_data": seen / samples if samples else None,
                "checkpoints": -(-self.settings.steps // self.settings.checkpoint_every),
                "sheets": -(-self.settings.steps // self.settings.sheet_every),
                "seconds": self.seconds,
            },
            "stages": [asdict(each) for each in self.stages],
            "disk": {**asdict(self.disk), "needed": self.disk.needed},
            "settings": self.settings.model_dump(mode="json"),
        }

    def tables(self) -> Iterator[Table]:
        """Yields what would happen as tables for people."""
        yield _rows("What is learnt", self._learnt())
        yield _rows("How long, and on what", self._plan())
        if self.stages:
            yield self._stages()
        yield self._memory()

    def warnings(self) -> Iterator[str]:
        """Yields what stands in the way of the run."""
        if self.disk.needed > self.disk.free:
            yield f"There is not enough room on the disk: {_size(self.disk.needed)} of {_size(self.disk.free)}."
        if (self.disk.cache or 0) > self.settings.cache_limit * GIB:
            yield (
                f"Latents and context tokens take {_size(self.disk.cache or 0)}, more than --cache-limit "
                f"{self.settings.cache_limit:g}."
            )

    def _learnt(self) -> Iterator[tuple[str, str]]:
        data, overview = self.data, self.data.overview
        yield "data", f"{self.settings.data} ({overview.about})"
        yield "samples", _count(data)
        if overview.skipped:
            first = next(iter(overview.skipped.items()))
            yield "cannot be used", f"{len(overview.skipped):,} of those read, such as {first[0]:.60}: {first[1]:.120}"
        captions = ", ".join(f"{count:,} with {number}" for number, count in sorted(overview.captions.items()))
        yield "captions", captions
        yield "shapes of latents", "; ".join(f"{name}: {count:,}" for name, count in data.buckets.most_common(6))
        yield "flows", ", ".join(self.flows)
        groups = ", ".join(f"{name} {count:,}" for name, count in self.trained.groups.items())
        yield (
            "trained",
            f"{self.trained.count:,} parameters ({self.settings.train.value}), beside {self.trained.whole:,}: {groups}",
        )

    def _plan(self) -> Iterator[tuple[str, str]]:
        settings, samples, seconds = self.settings, self.data.samples, self.time.seconds
        seen = settings.steps * self.batch
        through = f", {seen / samples:.1f} times through the data" if samples else ""
        if self.stages:
            yield "steps", "of each stage: see below"
        else:
            yield "steps", f"{settings.steps:,} of {self.batch} samples of each flow: {seen:,}{through}"
        if seconds is None or self.seconds is None:
            why = next((each.time.why for each in self.stages if each.time.why), self.time.why)
            yield "time", f"not measured: {why}"
        else:
            last = " of the last stage" if self.stages else ""
            yield (
                "time",
                f"{_duration(self.seconds)}, from a step{last} of {seconds:.3g} s ({self.batch / seconds:.3g} "
                f"samples/s) on {self.time.hardware}; encoding, sheets and checkpoints come on top",
            )
        cache = "unknown" if self.disk.cache is None else _size(self.disk.cache)
        yield "latents and tokens", f"{cache} on disk, of {settings.cache_limit:g} GiB that are allowed"
        yield "checkpoints", f"every {settings.checkpoint_every} steps {_size(self.disk.checkpoint)}"
        yield (
            "disk",
            f"{_size(self.disk.needed)} at most, {_size(self.disk.free)} free; the result {_size(self.disk.result)}",
        )

    def _stages(self) -> Table:
        table = Table("stage", "steps", "batch", "a step", "all", title="Stages", title_justify="left")
        for each in self.stages:
            told = "not measured" if each.time.seconds is None else f"{each.time.seconds:.3g} s"
            whole = "" if each.seconds is None else _duration(each.seconds)
            table.add_row(each.name.replace("_", " "), f"{each.steps:,}", f"{each.batch:,}", told, whole)
        return table

    def _memory(self) -> Table:
        table = Table("memory of a card", title="Memory, counted without computing", title_justify="left")
        for count in PROCESSES:
            table.add_column(f"{count} card{'s' * (count > 1)}", justify="right")
        for each in self.memory:
            how = ", --checkpointing" if each.checkpointing else ""
            table.add_row(f"{each.what}{how}", *(_size(each.cards[count]) for count in PROCESSES))
            parts = ", ".join(f"{name} {_size(size)}" for name, size in each.parts.items())
            table.add_row(f"on one: {parts}", style="dim", end_section=True)
        table.caption = "Several share the model out (FSDP2). CUDA and its libraries take some hundred MB more."
        table.caption_justify = "left"
        return table


def _rows(title: str, rows: Iterator[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    for name, told in rows:
        table.add_row(name, told)
    return table


def _count(data: DataSurvey) -> str:
    if data.samples is None:
        return f"more than {data.overview.samples:,}; nobody tells how many"
    if data.overview.complete:
        return f"{data.samples:,}"
    return f"about {data.samples:,}, by the first {data.overview.samples:,}"


def _size(count: int) -> str:
    return f"{count / GIB:.2f} GiB" if count >= GIB / 100 else f"{count / 2**20:.2f} MiB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
