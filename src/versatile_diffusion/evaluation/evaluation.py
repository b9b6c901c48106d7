"""Measuring a system on a data set: choose samples, make an output of each, measure all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from versatile_diffusion.data.captioned_data import SKIPPED, CaptionedData, SkippedSamples
from versatile_diffusion.data.folder import listing
from versatile_diffusion.data.sample import words_modality
from versatile_diffusion.evaluation.figures import EvaluationReport
from versatile_diffusion.evaluation.generation import progress_bar, quiet
from versatile_diffusion.evaluation.making import SETTINGS, OutputMaker
from versatile_diffusion.evaluation.measuring import Measurement
from versatile_diffusion.evaluation.samples import EvaluationSample, choose_samples, read_samples, write_samples
from versatile_diffusion.evaluation.settings import EvaluationOptions
from versatile_diffusion.files import require_same_settings
from versatile_diffusion.flows import Flow
from versatile_diffusion.pipeline.pipeline import FlowPipeline
from versatile_diffusion.processes import ProcessShare, processes

SAMPLES = "samples.jsonl"
"""In the folder of an evaluation, beside a folder for each flow: what is measured on."""


@dataclass(frozen=True)
class MakingSettings:
    """How outputs are made.

    Attributes:
        model: what the user calls it.
        words: all that an output depends on, by the names that the command line gives them.
        options: of `generate`.
    """

    model: str
    words: Mapping[str, object]
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])  # whatever `generate` takes


class DataSetEvaluation:
    """An evaluation in a folder, which goes on where it stopped.

    Args:
        options: what is measured on, and with what.
        flows: that are measured, all of one output; those that the data set has no samples for are left out if
            `asked` is false.
        folder: of samples and outputs.
        making: how outputs are made.
        asked: whether the user named the flows.
        device: that measures.
        shown: whether to show progress bars.
    """

    def __init__(
        self,
        options: EvaluationOptions,
        flows: Sequence[Flow],
        folder: Path,
        making: MakingSettings,
        *,
        asked: bool = True,
        device: torch.device | None = None,
        shown: bool = False,
    ) -> None:
        self.options, self.wanted, self.folder, self.making = options, tuple(flows), folder, making
        self.asked, self.device, self.shown = asked, device or torch.device("cpu"), shown
        choosing = processes().is_main_process and not (folder / SAMPLES).exists()
        self.data = CaptionedData(options.data, SkippedSamples(folder / SKIPPED if choosing else None))

    @cached_property
    def samples(self) -> list[EvaluationSample]:
        """What is measured on: what an earlier call has chosen, or else chosen now.

        Raises:
            ValueError: if there are not enough, or the folder holds other samples.
        """
        file = self.folder / SAMPLES
        with processes().main_process_first():
            require_same_settings(self.folder / SETTINGS, self._choice, file.exists())
            if not file.exists():
                write_samples(self._chosen(), file)
        return read_samples(file)

    @property
    def flows(self) -> list[Flow]:
        """The flows that are measured."""
        captioned = all(sample.caption is not None for sample in self.samples)
        return [flow for flow in self.wanted if captioned or words_modality() not in (flow.context, flow.output)]

    def make(self, open_model: Callable[[Sequence[Flow]], FlowPipeline]) -> None:
        """Makes this process's share of the outputs that are missing, and waits for the others.

        Args:
            open_model: is called with the flows, if anything is missing.

        Raises:
            ValueError: if the folder holds outputs that were made otherwise.
        """
        state, makers = processes(), [self._maker(flow) for flow in self.flows]
        with state.main_process_first():
            for maker in makers:
                begun = any(maker.file(sample).exists() for sample in self.samples)
                require_same_settings(maker.folder / SETTINGS, self.making.words, begun)
        missing = [(maker, batch) for maker in makers for batch in maker.missing(self.samples)]
        state.wait_for_everyone()  # nobody writes before all have seen what is missing
        own = ProcessShare.of(state)
        share = missing[own.process :: own.processes]
        if share:
            pipe = open_model(list(dict.fromkeys(maker.flow for maker, _ in share)))
            with quiet(pipe), progress_bar(self.shown and state.is_main_process) as bar:
                for maker in makers:
                    batches = [batch for whose, batch in share if whose is maker]
                    task = bar.add_task(f"making {maker.flow}", total=sum(map(len, batches)), visible=bool(batches))
                    maker.make(pipe, batches, lambda count, task=task: bar.advance(task, count))
        state.wait_for_everyone()

    def measure(self) -> EvaluationReport:
        """Measures what was made: all of it, in one process.

        Raises:
            ValueError: if something is missing; the message names it.
        """
        makers = [self._maker(flow) for flow in self.flows]
        measurement = Measurement(
            self.options, self.data, self.samples, makers, self.making.model, self.device, self.shown
        )
        return measurement.report()

    @property
    def _choice(self) -> dict[str, object]:
        """What the choice of samples depends on."""
        options = self.options
        return {
            "data": options.data,
            "files": listing(options.data),
            "flows": [str(flow) for flow in self.wanted],
            "num": options.num,
            "seed": options.seed,
        }

    def _chosen(self) -> list[EvaluationSample]:
        """Chooses samples that have what all flows need."""
        flows = [flow for flow in self.wanted if self.asked or self._has_samples(flow)] or list(self.wanted)
        needs = {name for flow in flows for name in (flow.context, flow.output)}
        return choose_samples(self.data, needs, self.options.num, self.options.seed)

    def _has_samples(self, flow: Flow) -> bool:
        needs = {flow.context, flow.output}
        return any(needs <= {part.modality for part in row.parts} for row in self.data.rows())

    def _maker(self, flow: Flow) -> OutputMaker:
        options = self.options
        return OutputMaker(
            self.folder / str(flow), flow, self.data, options.batch_size, options.seed, self.making.options
        )
