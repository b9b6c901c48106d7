"""A picture of the prompt while it is being written, drawn anew with every keystroke. Nothing of it is kept."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from html import escape
from typing import TypeAlias

import gradio as gr
from fastapi import HTTPException

from versatile_diffusion.engine.jobs import Job, Status
from versatile_diffusion.engine.refusals import NotTaken
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.sampling.options import PresetName
from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.serving.schemas import JobOut, generate_model
from versatile_diffusion.studio import status
from versatile_diffusion.studio.options import RANDOM

PAUSE = 0.08
"""Seconds without a keystroke before drawing begins."""
SLOW = 2.0
"""Seconds of drawing after which it is no help while one types."""
_EMPTY = '<figure><div class="vd-nothing"></div><figcaption>What you write is drawn here at once.</figcaption></figure>'

Shown: TypeAlias = tuple[object, object]
"""What the picture and the switch are to show."""


@dataclass
class _Turn:
    """A drawing of one visitor, until the next keystroke."""

    job: Job | None = None
    overtaken: bool = False


class LivePreview:
    """A switch and a picture, made where they are to stand.

    Args:
        to: the modality that is made, whose outputs are images.
        jobs: makes jobs of requests.
        on: whether it draws before anybody has switched it.
    """

    def __init__(self, to: str, jobs: JobService, on: bool) -> None:
        self._to, self._jobs = to, jobs
        self._turns: dict[str, _Turn] = {}
        self.switch = gr.Checkbox(on, label="Draw while I type", container=False)
        self.picture = gr.HTML(_EMPTY if on else "", padding=False, elem_classes="vd-live")

    def follow(self, prompt: gr.Textbox, model: gr.Dropdown, seed: gr.Number) -> None:
        """Has it follow what is written, chosen and switched elsewhere on the page."""
        gr.on(  # pyright: ignore[reportUnknownMemberType] - gradio types it in part
            [prompt.change, self.switch.input, seed.input, model.input],
            self._draw,
            [self.switch, prompt, model, seed],
            [self.picture, self.switch],
            show_progress="hidden",
            trigger_mode="multiple",
            concurrency_limit=None,
        )

    def stop(self, request: gr.Request) -> None:
        """Ends the drawing of a visitor's page, if there is one."""
        turn = self._turns.pop(_page(request), None)
        if turn is not None:
            turn.overtaken = True
            if turn.job is not None:
                self._jobs.engine.cancel(turn.job)

    async def _draw(self, request: gr.Request, on: bool, prompt: str, model: str, seed: float | None) -> Shown:
        self.stop(request)
        if not on or not prompt.strip():
            return _EMPTY if on else "", _as_it_is()
        turn = self._turns[_page(request)] = _Turn()
        try:
            await asyncio.sleep(PAUSE)
            if turn.overtaken:
                return _as_it_is(), _as_it_is()
            job, seconds = await self._drawn(turn, prompt, model, 0 if seed in (None, RANDOM) else int(seed))
        except (ValueError, HTTPException, NotTaken) as error:
            return status.failed(str(error.detail if isinstance(error, HTTPException) else error)), _as_it_is()
        finally:
            if self._turns.get(_page(request)) is turn:
                del self._turns[_page(request)]
        if job.error is not None:
            return status.failed(job.error.message), _as_it_is()
        if turn.overtaken or job.status is Status.CANCELLED:
            return _as_it_is(), _as_it_is()
        if seconds <= SLOW:
            return _figure(prompt, job, ""), _as_it_is()
        note = f"That took {seconds:.0f} s, so drawing while you type is off now."
        return _figure(prompt, job, note), gr.Checkbox(value=False)

    async def _drawn(self, turn: _Turn, prompt: str, model: str, seed: int) -> tuple[JobOut, float]:
        """The job when it is over, and the seconds that it was computed."""
        fields = {"to": self._to, "model": model, "seed": seed, "preset": PresetName.FAST}
        contexts = [{"modality": TEXT.name, "data": prompt}]
        asked = generate_model().model_validate({**fields, "contexts": contexts})
        job = turn.job = await self._jobs.submit(asked.read, {}, "")
        if turn.overtaken:  # while it was read
            self._jobs.engine.cancel(job)
        begun = time.perf_counter()
        async for state in self._jobs.changes(job):
            if state.status is Status.QUEUED:
                begun = time.perf_counter()
            elif state.status is not Status.RUNNING:
                return state, time.perf_counter() - begun
        raise AssertionError("a job ends in a final state")


def _page(request: gr.Request) -> str:
    """Which of all open pages asks."""
    return request.session_hash or ""


def _figure(prompt: str, job: JobOut, note: str) -> str:
    output = job.outputs[0]
    words = " ".join([f"Seed {output.seed}.", *job.notes, note]).strip()
    image = f'<img src="data:image/png;base64,{output.image}" alt="{escape(prompt)}">'
    return f'<figure>{image}<figcaption role="status">{escape(words)}</figcaption></figure>'


def _as_it_is() -> object:
    """Leaves a component as it is."""
    return gr.skip()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - gradio types it in part
