"""The page of the studio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
from fastapi import FastAPI
from gradio.components import Component
from gradio.utils import get_upload_folder
from starlette.middleware import Middleware

from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.studio.compare_tab import CompareTab
from versatile_diffusion.studio.controls import Control
from versatile_diffusion.studio.guard import Guard, visitor_of
from versatile_diffusion.studio.history import RESULTS, Entry
from versatile_diffusion.studio.history_tab import HistoryTab
from versatile_diffusion.studio.results_panel import Shelf, find
from versatile_diffusion.studio.results_store import Keeper
from versatile_diffusion.studio.task_tab import TaskTab
from versatile_diffusion.studio.tasks import TASKS
from versatile_diffusion.studio.theme import CSS, KEYS, theme
from versatile_diffusion.studio.visitors import VisitorFiles, Visitors

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


def build(jobs: JobService, keeper: Keeper) -> gr.Blocks:
    """The page."""
    names = list(jobs.engine.models)
    with gr.Blocks(title="Versatile Diffusion", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(HEADER, padding=False)
        model = gr.Dropdown(names, value=names[0], label="Model", visible=len(names) > 1)
        with gr.Tabs(elem_classes="vd-tabs", overflow_behavior="wrap") as tabs:
            shown = [TaskTab(task, jobs, keeper, model) for task in TASKS]
            compare = CompareTab()
            history = HistoryTab(keeper.history)
        for shelf in [*(tab.shelf for tab in shown), history.shelf]:
            _use_as_input(shelf, shown, tabs)
            compare.collect(shelf)
        _replay(history, shown, tabs, keeper, model)
        tabs.change(None, js=_SHOW_TAB)
        page.load(_prepare, show_progress="hidden", queue=False)
    for function in page.fns.values():
        function.api_visibility = "private"  # programs ask the server's API, not the page's functions
    return page


def _prepare() -> None:
    """Imports PyTorch while the user reads, so that the first result need not wait for it."""
    import_module("versatile_diffusion.provenance.recording")


def _replay(history: HistoryTab, tabs: Sequence[TaskTab], frame: gr.Tabs, keeper: Keeper, model: Component) -> None:
    """Wires the button that makes a result again."""
    by_key = {tab.task.key: tab for tab in tabs}

    def fill(request: gr.Request, entries: list[Entry], chosen: str | None) -> dict[Component | gr.Tabs, Any]:
        entry = find(entries, chosen)
        if entry is None:
            raise gr.Error("Choose a result first.", print_exception=False)
        try:
            values = keeper.values(entry)
        except OSError as error:
            raise gr.Error(f"Its inputs are gone: {error}", print_exception=False) from error
        tab = by_key[entry.task]
        again = {tab.again: uuid4().hex, model: values["model"]}
        return {frame: gr.Tabs(selected=tab.task.key), **tab.fill(values, visitor_of(request)), **again}

    outputs = [frame, model, *(each for tab in tabs for each in (tab.again, *tab.inputs.values()))]
    shelf = history.shelf
    shelf.more["Replay"].click(fill, [shelf.entries, shelf.chosen], outputs, show_progress="hidden")


def _use_as_input(shelf: Shelf, tabs: Sequence[TaskTab], frame: gr.Tabs) -> None:
    """Wires the buttons that put a result into another tab."""
    for tab in tabs:
        if tab.task.key not in shelf.use:
            continue
        controls = {modality: control for modality in shelf.modalities if (control := tab.task.takes(modality))}

        targets = [tab.form.components[control.name] for control in controls.values()]

        def put(
            request: gr.Request,
            entries: list[Entry],
            chosen: str,
            tab: TaskTab = tab,
            controls: Mapping[str, Control] = controls,
        ) -> Any:
            entry = find(entries, chosen)
            if entry is None:
                raise gr.Error("This result is gone: choose another.", print_exception=False)
            control = controls["image" if entry.text is None else "text"]
            content = entry.file.read_bytes() if entry.text is None else entry.text
            shown = dict(tab.form.fill_one(control, content, visitor_of(request)))
            return {**shown, frame: gr.Tabs(selected=tab.task.key)}

        shelf.use[tab.task.key].click(
            put, [shelf.entries, shelf.chosen], [*targets, frame], show_progress="hidden", queue=False
        )


def mount(app: FastAPI, page: gr.Blocks, keeper: Keeper) -> FastAPI:
    """Puts the page at the root of an app, behind its guard."""
    histories = (keeper.history, keeper.spare)
    visitors = Visitors(VisitorFiles(Path(get_upload_folder()), histories))
    # gradio shows results from where they are, and makes no copies that would outlive them.
    gr.set_static_paths([history.folder / RESULTS for history in histories])
    page.queue(default_concurrency_limit=16, api_open=False)
    page.has_launched = True  # or gradio would not check files itself
    return gr.mount_gradio_app(
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
