"""The tab of a task: what to fill in, and what comes of it."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import gradio as gr
from anyio import to_thread
from fastapi import HTTPException
from gradio.blocks import Block
from gradio.components import Component
from pydantic import ValidationError

from versatile_diffusion.engine.jobs import Job, Status
from versatile_diffusion.engine.records import record_of
from versatile_diffusion.engine.refusals import NotTaken
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.workers import ModelInfo
from versatile_diffusion.modalities.spec import ShownAs
from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.serving.problems import in_words
from versatile_diffusion.serving.schemas import JobOut, generate_model
from versatile_diffusion.serving.uploads import Uploads
from versatile_diffusion.studio import status
from versatile_diffusion.studio.controls import Values
from versatile_diffusion.studio.examples import Example, examples_of, repertoire_of
from versatile_diffusion.studio.forms import Form
from versatile_diffusion.studio.guard import visitor_of
from versatile_diffusion.studio.live_preview import LivePreview
from versatile_diffusion.studio.options import (
    RANDOM,
    advanced_controls,
    fields_asked,
    preset_values,
)
from versatile_diffusion.studio.repertoire_panel import RepertoirePanel
from versatile_diffusion.studio.results_panel import ResultsPanel
from versatile_diffusion.studio.results_store import ResultsStore
from versatile_diffusion.studio.tasks import StudioTask, shown_as
from versatile_diffusion.studio.visitors import Visitor

_SHOW_STATUS = """() => [...document.querySelectorAll(".vd-status")].find(each => each.offsetParent)
  ?.scrollIntoView({block: "nearest"})"""
"""Where it stands below the button, as on a phone."""


Shown: TypeAlias = dict[Block, object]
"""Values of components."""


class TaskTab:
    """The tab of a task, made where it is to stand.

    Args:
        task: what it does.
        tasks: all tasks of the studio, which may take its results as input.
        jobs: makes jobs of requests.
        results: keeps what comes of them.
        model: the component that names the model.

    Attributes:
        again: a state; the task runs with what is filled in whenever it changes.
    """

    def __init__(
        self,
        task: StudioTask,
        tasks: Sequence[StudioTask],
        jobs: JobService,
        results: ResultsStore,
        model: gr.Dropdown,
    ) -> None:
        self.task = task
        self._jobs = jobs
        self._results = results
        self._examples = examples_of(task.key, jobs.engine.models)
        with gr.Tab(task.title, id=task.key) as self.tab:
            gr.Markdown(task.hint, elem_classes="vd-hint")
            with gr.Row(elem_classes="vd-columns"):
                with gr.Column(scale=5, min_width=300):
                    self._build_inputs()
                with gr.Column(scale=6, min_width=300):
                    self.status = gr.HTML(status.idle(_empty(task)), padding=False, elem_classes="vd-status")
                    self.panel = ResultsPanel(tasks, [shown_as(task.to)])
            self.job = gr.State(None)
            self.again = gr.State(None)
        self._wire(model)

    # ---- building ----

    def _build_inputs(self) -> None:
        self.form = Form(self.task.controls)
        self._build_live()
        self._build_examples()
        self._build_repertoire()
        self._build_options()
        with gr.Row(elem_classes="vd-run"):
            self.run_button = gr.Button("Generate", variant="primary", scale=3)
            self.cancel_button = gr.Button("Cancel", variant="stop", visible=False, scale=1)

    def _build_examples(self) -> None:
        self.examples: list[gr.Button] = []
        if not self._examples:
            return
        gr.HTML('<p class="vd-label">Examples</p>', padding=False)
        with gr.Row(elem_classes=["vd-buttons", "vd-examples"]):
            self.examples = [gr.Button(example.title, size="sm") for example in self._examples]

    @property
    def _prompt(self) -> gr.Textbox | None:
        """Where people write what they want to see, if that is all that the task asks for."""
        prompt = self.form.components.get("prompt")
        return prompt if self.task.prompted and isinstance(prompt, gr.Textbox) else None

    def _build_live(self) -> None:
        self.live = None
        if self._prompt is not None and shown_as(self.task.to) is ShownAs.IMAGE:
            first = next(iter(self._jobs.engine.models.values()))
            self.live = LivePreview(self.task.to, self._jobs, on=first.few_steps is not None)

    def _build_repertoire(self) -> None:
        repertoire = repertoire_of(self._jobs.engine.models)
        if self._prompt is not None and repertoire is not None:
            self.repertoire = RepertoirePanel(repertoire, self._prompt)

    def _build_options(self) -> None:
        with gr.Row():
            self.num_outputs = gr.Slider(1, self._jobs.limits.outputs, 1, step=1, label="Outputs")
            self.preset = gr.Radio([("Fast", "fast"), ("Quality", "quality")], value="fast", label="Preset")
        with gr.Row(equal_height=True, elem_classes="vd-seed"):
            self.seed = gr.Number(RANDOM, label="Seed (−1: random)", precision=0, minimum=RANDOM)
            self.dice = gr.Button("Roll the dice", size="sm", min_width=120)
        first = next(iter(self._jobs.engine.models.values()))
        with gr.Accordion("Advanced options", open=False):
            self.options = Form(advanced_controls(self.task.to, first))

    # ---- wiring ----

    @property
    def _common(self) -> dict[str, Component]:
        """What every task has, by name."""
        return {"num_outputs": self.num_outputs, "preset": self.preset, "seed": self.seed}

    @property
    def inputs(self) -> dict[str, Component]:
        """All there is to fill in, by name."""
        return {**self.form.components, **self._common, **self.options.components}

    def _wire(self, model: gr.Dropdown) -> None:
        self.dice.click(_random_seed, None, self.seed, show_progress="hidden", queue=False)
        first = next(iter(self._jobs.engine.models))
        set_by_preset = [self.options.components[name] for name in self._by_preset("fast", first)]
        for changed in (self.preset, model):  # by the user: a replay sets all
            changed.input(self._preset, [self.preset, model], set_by_preset, show_progress="hidden", queue=False)
        if self.live is not None and self._prompt is not None:
            self.live.follow(self._prompt, model, self.seed)
        targets = list(self.form.components.values())
        for example, button in zip(self._examples, self.examples, strict=True):
            button.click(self._filler(example), None, targets, show_progress="hidden", queue=False)
        self.run_button.click(None, js=_SHOW_STATUS)
        self.cancel_button.click(self._cancel, self.job, None, show_progress="hidden", queue=False)
        prompts = [each.submit for each in self.form.components.values() if isinstance(each, gr.Textbox)]
        gr.on(  # pyright: ignore[reportUnknownMemberType] - gradio types it in part
            [self.run_button.click, *prompts, self.again.change],
            self._run,
            [model, *self.inputs.values()],
            [self.status, self.job, self.cancel_button, *self.panel.outputs],
            show_progress="hidden",
            trigger_mode="once",
            concurrency_limit=None,
        )

    def _preset(self, preset: str, model: str) -> list[object]:
        return list(self._by_preset(preset, model).values())

    def _by_preset(self, preset: str, model: str) -> dict[str, object]:
        return preset_values(preset, self._jobs.engine.models[model], self.task.to)

    def fill(self, values: Values, visitor: Visitor) -> dict[Component, object]:
        """Returns components with what they are to show a visitor, such as what was filled in for a former result."""
        common = {component: values[name] for name, component in self._common.items() if name in values}
        return {**dict(self.form.fill(values, visitor)), **dict(self.options.fill(values, visitor)), **common}

    def _filler(self, example: Example) -> Callable[[gr.Request], dict[Component, object]]:
        def fill(request: gr.Request) -> dict[Component, object]:
            return dict(self.form.fill(example.values, visitor_of(request)))

        return fill

    # ---- running ----

    def _cancel(self, job: str | None) -> None:
        found = self._jobs.engine.find(job) if job else None
        if found:
            self._jobs.engine.cancel(found)

    async def _run(self, request: gr.Request, model: str, *given: object) -> AsyncIterator[Shown]:
        idle: Shown = {self.job: None, self.cancel_button: gr.Button(visible=False)}
        job: Job | None = None
        inputs: dict[str, bytes] = {}
        if self.live is not None:
            self.live.stop(request)
        try:
            values = await to_thread.run_sync(self._read, model, given, visitor_of(request))
            asked = generate_model().model_validate(fields_asked(self.task, values))

            def read(uploads: Uploads, models: Mapping[str, ModelInfo]) -> JobRequest:
                nonlocal inputs
                wanted = asked.read(uploads, models)
                inputs = {Path(name).name: content for name, content in record_of(wanted).files().items()}
                return wanted

            job = await self._jobs.submit(read, {}, "")
            yield {self.job: job.id, self.cancel_button: gr.Button(visible=True)}
            async for state in self._jobs.changes(job):
                if state.status in (Status.QUEUED, Status.RUNNING):
                    yield {self.status: status.going_on(state)}
                else:
                    yield {**idle, **await to_thread.run_sync(self._ended, state, values, inputs)}
        except (ValueError, OSError, HTTPException, NotTaken) as error:
            yield {**idle, self.status: status.failed(_in_words(error))}
        finally:
            if job is not None and not job.state.is_final:  # the page was closed
                self._jobs.engine.cancel(job)

    def _read(self, model: str, given: Sequence[object], visitor: Visitor) -> dict[str, object]:
        named = dict(zip(self.inputs, given, strict=True))
        common = {name: named[name] for name in self._common}
        return {"model": model, **self.form.read(named, visitor), **common, **self.options.read(named, visitor)}

    def _ended(self, job: JobOut, values: Values, inputs: Mapping[str, bytes]) -> Shown:
        """What to show of a job that is over."""
        if job.error is not None:
            return {self.status: status.failed(job.error.message)}
        if job.status is Status.CANCELLED:
            ended = f"Cancelled at step {job.step} of {job.steps}." if job.steps else "Cancelled."
            return {self.status: status.said(ended)}
        used = {**values, "seed": job.outputs[0].seed}
        kept = [self._results.keep(self.task, used, output, inputs) for output in job.outputs]
        if (problem := kept[-1][1]) is not None:
            why = problem.strerror or str(problem)
            advice = "Download what you like, or make room and generate again."
            gr.Warning(f"The results could not be kept ({why}): they go when the studio ends. {advice}", duration=None)
        words = " ".join([f"Done in {time.time() - job.created:.1f} s.", *job.notes])
        shown = self.panel.shown([entry for entry, _ in kept])
        return {self.status: status.said(words), **dict(zip(self.panel.outputs, shown, strict=True))}


def _random_seed() -> int:
    return random.randrange(2**31)


def _empty(task: StudioTask) -> str:
    whats = {ShownAs.IMAGE: "Pictures", ShownAs.TEXT: "Texts", ShownAs.AUDIO: "Sounds"}
    what = whats.get(shown_as(task.to), "Results")
    return f"{what} appear here. Fill in the form or click an example, then Generate."


def _in_words(error: Exception) -> str:
    match error:
        case ValidationError():
            return in_words(error)
        case HTTPException():
            return str(error.detail)
        case _:
            return str(error)
