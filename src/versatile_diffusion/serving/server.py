"""The server: an app that listens."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable, Collection

import uvicorn
from fastapi import FastAPI

from versatile_diffusion.serving.access import Keys, is_loopback
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.engine import Engine
from versatile_diffusion.serving.limits import EngineLimits, Limits
from versatile_diffusion.serving.metrics import Metrics
from versatile_diffusion.serving.workers import Worker

_PATIENCE = 5  # seconds that open connections have when the server is stopped


def serve(
    worker: Worker,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    keys: Keys | None = None,
    engine_limits: EngineLimits = EngineLimits(),
    limits: Limits = Limits(),
    origins: Collection[str] = (),
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serves models until it is interrupted.

    Args:
        worker: what computes; closed at the end.
        host: address to listen at.
        port: to listen at.
        keys: who may ask.
        engine_limits: of the queue, batches and jobs.
        limits: of a request, and of a key.
        origins: pages that browsers may ask from, besides the server's own.
        on_ready: called when the models are open, just before it listens.

    Raises:
        ValueError: if others than this machine could ask without a key.
        RuntimeError: if a model cannot be opened.
    """
    if not keys and not is_loopback(host):
        raise ValueError(
            f"At {host} others can reach the server: give keys with --keys FILE or VD_API_KEYS, or listen at 127.0.0.1."
        )
    metrics = Metrics()
    engine = Engine(worker, engine_limits, metrics)
    app = build_app(engine, metrics=metrics, limits=limits, keys=keys, origins=origins)
    on_ready()
    listen(app, host, port, _PATIENCE)


def listen(app: FastAPI, host: str, port: int, patience: int) -> None:
    """Serves an app until it is interrupted; open connections then have so many seconds of patience."""
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    uvicorn.run(app, host=host, port=port, log_level="warning", server_header=False, timeout_graceful_shutdown=patience)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is more than that a page still listened when the server was stopped."""
    cancelled = record.exc_info is not None and isinstance(record.exc_info[1], CancelledError)
    return not cancelled and "timeout graceful shutdown exceeded" not in record.getMessage()
