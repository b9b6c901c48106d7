"""The studio as a server: an engine, its HTTP interface, and the page on top of both."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.workers import Worker
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.keys import is_loopback
from versatile_diffusion.serving.limits import Limits
from versatile_diffusion.serving.metrics import Metrics
from versatile_diffusion.serving.server import listen
from versatile_diffusion.studio.history import History

_PATIENCE = 1  # seconds that open connections have when the studio is stopped
_LIMITS = EngineLimits(timeout=86400)
"""A large model without a GPU takes its time, and there is Cancel."""


def serve(
    worker: Worker,
    history: History,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    engine_limits: EngineLimits = _LIMITS,
    on_ready: Callable[[int], None] = lambda port: None,
) -> None:
    """Serves the studio until it is interrupted.

    Args:
        worker: what computes; closed at the end.
        history: where results are kept.
        host: address to listen at, of this machine alone.
        port: to listen at.
        engine_limits: of the queue, batches and jobs.
        on_ready: called with the port, as soon as it listens.

    Raises:
        ValueError: if others than this machine could use it.
        RuntimeError: if a model cannot be opened.
    """
    if not is_loopback(host):
        raise ValueError(
            f"The studio asks nobody for a password, and at {host} others could reach it: listen at 127.0.0.1, and let "
            f"them in with `ssh -L {port}:localhost:{port}`."
        )
    with tempfile.TemporaryDirectory(prefix="versatile-diffusion-") as scratch:
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": scratch}
        from versatile_diffusion.studio.page import build, mount  # gradio, which reads the environment
        from versatile_diffusion.studio.results_store import ResultsStore

        metrics = Metrics()
        engine = Engine(worker, engine_limits, metrics)
        app = build_app(engine, metrics=metrics, limits=Limits())
        results = ResultsStore(history, History(Path(scratch, "unkept")))
        mount(app, build(app.state.jobs, results), results)
        listen(app, engine, host, port, patience=_PATIENCE, on_ready=on_ready)
