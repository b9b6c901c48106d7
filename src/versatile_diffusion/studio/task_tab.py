"""The tab of a task: what to fill in, and what comes of it."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from anyio import to_thread
from fastapi import HTTPException
from gradio.components import Component
from pydantic import ValidationError

from versatile_diffusion.engine.engine import NotTaken
from versatile_diffusion.engine.jobs import Job, Status
from versatile_diffusion.engine.records import record_of
from versatile_diffusion.engine.requests import JobRequest
from versatile_diffusion.engine.workers import ModelInfo
from versatile_diffusion.sampling.options import SchedulerName
from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.serving.problems import in_words
from versatile_diffusion.serving.schemas import JobOut, generate_model
from versatile_diffusion.serving.uploads import Uploads
from versatile_diffusion.studio import status
from versatile_diffusion.studio.examples import Example, examples_of
from versatile_diffusion.studio.forms import Form
from versatile_diffusion.studio.guard import visitor_of
from versatile_diffusion.studio.history import Entry
from versatile_diffusion.studio.options import OWN, RANDOM, asked, defaults, own_guidance_scale, sampling
from versatile_diffusion.studio.results_panel import Shelf
from versatile_diffusion.studio.results_store import Keeper
from versatile_diffusion.studio.tasks import Task
from versatile_diffusion.studio.visitors import Visitor

_SHOW_STATUS = """() => [...document.querySelectorAll(".vd-status")].find(each => each.offsetParent)
  ?.scrollIntoView({block: "nearest"})"""
"""Where it stands below the button, as on a phone."""


class TaskTab:
    """A tab, made where it is to stand.

    Args:
        task: what it does.
        jobs: makes jobs of requests.
        keeper: keeps what comes of them.
        model: the component that names the model.
    """

    def __init__(self, task: Task, jobs: JobService, keeper: Keeper, model: gr.Dropdown) -> None:
        self.task = task
        self._jobs = jobs
        self._keeper = keeper
        self._examples = examples_of(task.key, jobs.engine.models)
        self._defaults = defaults(self._guidance_scale(next(iter(jobs.engine.models))))
        with gr.Tab(task.title, id=task.key) as self.tab:
            gr.Markdown(task.hint, elem_classes="vd-hint")
            with gr.Row(elem_classes="vd-columns"):
                with gr.Column(scale=5, min_width=300):
                    self._build_inputs()
                with gr.Column(scale=6, min_width=300):
                    self.status = gr.HTML(status.idle(_empty(task)), padding=False, elem_classes="vd-status")
                    self.shelf = Shelf(task.to)
            self.job = gr.State(None)
            self.again = gr.State(None)
        self._wire(model)

    # ---- building ----

    def _build_inputs(self) -> None:
        self.form = Form(self.task.controls)
        self._build_examples()
        self.how = self._build_options()
        with gr.Row(elem_classes="vd-run"):
            self.run_button = gr.Button("Generate", variant="primary", scale=3)
            self.cancel_button = gr.Button("Cancel", variant="stop", visible=False, scale=1)

    def _build_examples(self) -> None:
        self.examples = []
        if not self._examples:
            return
        gr.HTML('<p class="vd-label">Examples</p>', padding=False)
        with gr.Row(elem_classes=["vd-buttons", "vd-examples"]):
            self.examples = [gr.Button(example.title, size="sm") for example in self._examples]

    def _build_options(self) -> dict[str, Component]:
        start, how = self._defaults, {}
        with gr.Row():
            how["num_outputs"] = gr.Slider(1, 8, start["num_outputs"], step=1, label="Outputs")
            self.preset = gr.Radio([("Fast", "fast"), ("Quality", "quality")], value=start["preset"], label="Preset")
            how["preset"] = self.preset
        with gr.Row(equal_height=True, elem_classes="vd-seed"):
            how["seed"] = gr.Number(RANDOM, label="Seed (−1: random)", precision=0, minimum=RANDOM)
            self.dice = gr.Button("Roll the dice", size="sm", min_width=120)
        with gr.Accordion("Advanced options", open=False):
            how["steps"] = gr.Slider(1, 100, start["steps"], step=1, label="Steps")
            how["guidance_scale"] = gr.Slider(1, 20, start["guidance_scale"], step=0.1, label="Guidance scale")
            names = [OWN, *(str(name) for name in SchedulerName)]
            how["scheduler"] = gr.Dropdown(names, value=start["scheduler"], label="Scheduler")
            how["eta"] = gr.Slider(
                0, 1, start["eta"], step=0.05, label="Eta", info="Noise that DDIM draws anew in each step."
            )
            how["negative"] = gr.Textbox(label="Negative text", info="What to keep away from.", lines=1)
            if self.task.to == "text":
                how["temperature"] = gr.Number(
                    None,
                    label="Temperature",
                    info="Of the words; 0 takes the likeliest, empty is the model's own.",
                    minimum=0,
                )
        return how

    # ---- wiring ----

    @property
    def inputs(self) -> dict[str, Component]:
        """All there is to fill in, by name."""
        return {**self.form.components, **self.how}

    def _wire(self, model: gr.Dropdown) -> None:
        quiet: dict[str, Any] = {"show_progress": "hidden", "queue": False}
        model.input(self._guidance_scale, model, self.how["guidance_scale"], **quiet)  # a replay sets both
        self.dice.click(lambda: random.randrange(2**31), None, self.how["seed"], **quiet)
        self.preset.input(
            lambda preset: list(sampling(preset).values()),
            self.preset,
            [self.how["steps"], self.how["scheduler"]],
            **quiet,
        )
        for example, button in zip(self._examples, self.examples, strict=True):
            button.click(self._filler(example), None, list(self.form.components.values()), **quiet)
        self.run_button.click(None, js=_SHOW_STATUS)
        self.cancel_button.click(self._cancel, self.job, None, **quiet)
        prompts = [c.submit for c in self.form.components.values() if isinstance(c, gr.Textbox)]
        gr.on(
            [self.run_button.click, *prompts, self.again.change],
            self._run,
            [model, *self.inputs.values()],
            [self.status, self.job, self.cancel_button, *self.shelf.outputs],
            show_progress="hidden",
            trigger_mode="once",
            concurrency_limit=None,
        )

    def _guidance_scale(self, model: str) -> float:
        return own_guidance_scale(self._jobs.engine.models[model], self.task.to)

    def fill(self, values: Mapping[str, Any], visitor: Visitor) -> dict[Component, Any]:
        """Components with what they are to show a visitor."""
        plain = {self.how[name]: values[name] for name in self.how if name in values}
        return {**dict(self.form.fill(values, visitor)), **plain}

    def _filler(self, example: Example) -> Callable[[gr.Request], dict[Component, Any]]:
        def fill(request: gr.Request) -> dict[Component, Any]:
            return dict(self.form.fill(example.values, visitor_of(request)))

        return fill

    # ---- running ----

    def _cancel(self, job: str | None) -> None:
        found = job and self._jobs.engine.find(job)
        if found:
            self._jobs.engine.cancel(found)

    async def _run(self, request: gr.Request, model: str, *given: Any) -> AsyncIterator[dict[Any, Any]]:
        idle = {self.job: None, self.cancel_button: gr.Button(visible=False)}
        job: Job | None = None
        inputs: dict[str, bytes] = {}
        try:
            values = await to_thread.run_sync(self._read, model, given, visitor_of(request))
            wanted = generate_model().model_validate(asked(self.task, values))

            def read(uploads: Uploads, models: Mapping[str, ModelInfo]) -> JobRequest:
                nonlocal inputs
                asked_for = wanted.read(uploads, models)
                inputs = {Path(name).name: content for name, content in record_of(asked_for).files().items()}
                return asked_for

            job = await self._jobs.submit(read, {}, "")
            yield {self.job: job.id, self.cancel_button: gr.Button(visible=True)}
            async for shown in self._jobs.changes(job):
                if shown.status in (Status.QUEUED, Status.RUNNING):
                    yield {self.status: status.going_on(shown)}
                else:
                    yield {**idle, **await to_thread.run_sync(self._ended, shown, values, inputs)}
        except (ValueError, OSError, HTTPException, NotTaken) as error:
            yield {**idle, self.status: status.failed(_in_words(error))}
        finally:
            if job is not None and not job.state.is_final:  # the page was closed
                self._jobs.engine.cancel(job)

    def _read(self, model: str, given: Sequence[Any], visitor: Visitor) -> dict[str, Any]:
        named = dict(zip(self.inputs, given, strict=True))
        return {"model": model, **self.form.read(named, visitor), **{name: named[name] for name in self.how}}

    def _ended(self, job: JobOut, values: Mapping[str, Any], inputs: Mapping[str, bytes]) -> dict[Any, Any]:
        if job.error is not None:
            return {self.status: status.failed(job.error.message)}
        if job.status is Status.CANCELLED:
            return {
                self.status: status.said(f"Cancelled at step {job.step} of {job.steps}." if job.steps else "Cancelled.")
            }
        entries: list[Entry] = []
        problem: OSError | None = None
        values = {**values, "seed": job.outputs[0].seed}
        for output in job.outputs:
            entry, problem = self._keeper.keep(self.task, values, output, inputs)
            entries.append(entry)
        if problem is not None:
            why = problem.strerror or str(problem)
            advice = "Download what you like, or make room and generate again."
            gr.Warning(f"The results could not be kept ({why}): they go when the studio ends. {advice}", duration=None)
        words = " ".join([f"Done in {time.time() - job.created:.1f} s.", *job.notes])
        return {
            self.status: status.said(words),
            **dict(zip(self.shelf.outputs, self.shelf.shown(entries), strict=True)),
        }


def _empty(task: Task) -> str:
    what = "Pictures" if task.to == "image" else "Texts"
    return f"{what} appear here. Fill in the form or click an example, then Generate."


def _in_words(error: Exception) -> str:
    match error:
        case ValidationError():
            return in_words(error)
        case HTTPException():
            return str(error.detail)
        case _:
            return str(error)
