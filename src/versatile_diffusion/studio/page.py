"""The page of the studio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from uuid import uuid4

import gradio as gr
from fastapi import FastAPI
from gradio.blocks import Block, BlockContext
from gradio.components import Component
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware

from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.studio.compare_tab import CompareTab
from versatile_diffusion.studio.guard import Guard, visitor_of
from versatile_diffusion.studio.history import RESULTS, HistoryEntry
from versatile_diffusion.studio.history_tab import HistoryTab
from versatile_diffusion.studio.other_tasks import tasks_for
from versatile_diffusion.studio.results_panel import ResultsPanel, find
from versatile_diffusion.studio.results_store import ResultsStore
from versatile_diffusion.studio.task_tab import TaskTab
from versatile_diffusion.studio.theme import CSS, KEYS, theme
from versatile_diffusion.studio.visitors import VisitorCookies, VisitorFiles

HEADER = """
<header class="vd-header">
  <h1>Versatile Diffusion</h1>
  <p>Pictures and texts from pictures and texts</p>
</header>
"""
_SHOW_TAB = """() => setTimeout(() => {
  const tab = document.querySelector(".vd-tabs .tab-container:not(.visually-hidden) [role=tab][aria-selected=true]");
  tab?.scrollIntoView({inline: "center", block: "nearest"});
})"""
"""Where the tabs are wider than the screen."""


def build(jobs: JobService, results: ResultsStore) -> gr.Blocks:
    """Builds the page.

    Args:
        jobs: takes what is asked for.
        results: keeps what comes of it.
    """
    names, tasks = list(jobs.engine.models), tasks_for(jobs.engine.models.values())
    with gr.Blocks(title="Versatile Diffusion", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(HEADER, padding=False)
        model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
        with gr.Tabs(elem_classes="vd-tabs", overflow_behavior="wrap") as frame:
            tabs = [TaskTab(task, tasks, jobs, results, model) for task in tasks]
            compare = CompareTab()
            history = HistoryTab(results.history, tasks)
        for panel in [*(tab.panel for tab in tabs), history.panel]:
            _use_as_input(panel, tabs, frame)
            compare.collect(panel)
        _replay(history, tabs, frame, results, model)
        frame.change(None, js=_SHOW_TAB)
        page.load(_prepare, show_progress="hidden", queue=False)
    for function in page.fns.values():
        function.api_visibility = "private"  # programs ask the server's API, not the page's functions
    return page


def _prepare() -> None:
    """Imports PyTorch while the user reads, so that the first result need not wait for it."""
    import_module("versatile_diffusion.provenance.recording")


def _replay(
    history: HistoryTab, tabs: Sequence[TaskTab], frame: gr.Tabs, results: ResultsStore, model: Component
) -> None:
    """Wires the button that makes a result again."""
    by_key = {tab.task.key: tab for tab in tabs}

    def fill(request: gr.Request, entries: list[HistoryEntry], chosen: str | None) -> dict[Block, object]:
        entry = find(entries, chosen)
        if entry is None:
            raise gr.Error("Choose a result first.", print_exception=False)
        tab = by_key.get(entry.task)
        if tab is None:
            raise gr.Error("No model that is open makes this: start the studio with the one that did.")
        try:
            values = results.values_of(entry)
        except OSError as error:
            raise gr.Error(f"Its inputs are gone: {error}", print_exception=False) from error
        again = {tab.again: uuid4().hex, model: values["model"]}
        return {frame: gr.Tabs(selected=tab.task.key), **tab.fill(values, visitor_of(request)), **again}

    outputs: list[Component | BlockContext] = [frame, model]
    outputs += [each for tab in tabs for each in (tab.again, *tab.inputs.values())]
    panel = history.panel
    panel.more["Replay"].click(fill, [panel.entries, panel.chosen], outputs, show_progress="hidden")


def _use_as_input(panel: ResultsPanel, tabs: Sequence[TaskTab], frame: gr.Tabs) -> None:
    """Wires the buttons that put a result into another tab."""
    for tab in tabs:
        if tab.task.key in panel.use:
            taken = [control for kind in panel.kinds if (control := tab.task.takes_shown(kind)) is not None]
            targets = [tab.form.components[control.name] for control in taken]
            inputs = [panel.entries, panel.chosen]
            panel.use[tab.task.key].click(
                _putter(tab, frame), inputs, [*targets, frame], show_progress="hidden", queue=False
            )


def _putter(
    tab: TaskTab, frame: gr.Tabs
) -> Callable[[gr.Request, list[HistoryEntry], str | None], dict[Block, object]]:
    """A function that puts the chosen result into a tab."""

    def put(request: gr.Request, entries: list[HistoryEntry], chosen: str | None) -> dict[Block, object]:
        entry = find(entries, chosen)
        control = None if entry is None else tab.task.takes(entry.modality)
        if entry is None or control is None:
            raise gr.Error("This result is gone: choose another.", print_exception=False)
        content = entry.file.read_bytes() if entry.text is None else entry.text
        component, value = tab.form.fill_one(control, content, visitor_of(request))
        return {component: value, frame: gr.Tabs(selected=tab.task.key)}

    return put


def mount(app: FastAPI, page: gr.Blocks, results: ResultsStore) -> FastAPI:
    """Puts the page at the root of an app, behind its guard."""
    histories = (results.history, results.spare)
    visitors = VisitorCookies(VisitorFiles(Path(get_upload_folder()), histories))
    # gradio shows results from where they are, and makes no copies that would outlive them.
    gr.set_static_paths([history.folder / RESULTS for history in histories])
    page.queue(default_concurrency_limit=16, api_open=False)
    page.has_launched = True  # or gradio would not check files itself
    return gr.mount_gradio_app(  # pyright: ignore[reportUnknownMemberType] - gradio types it in part
        app,
        page,
        path="/",
        app_kwargs={"middleware": [Middleware(Guard, visitors=visitors)]},
        theme=theme(),
        css_paths=[CSS],
        js=KEYS.read_text(),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        max_file_size=32 * 2**20,
    )
