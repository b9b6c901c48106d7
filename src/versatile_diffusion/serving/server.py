"""The server: an app that listens."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import Callable, Collection
from contextlib import suppress
from socket import socket

import uvicorn
from fastapi import FastAPI

from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.workers import Worker
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.keys import Keys, require_keys
from versatile_diffusion.serving.limits import Limits
from versatile_diffusion.serving.metrics import Metrics

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
    extend: Callable[[FastAPI], object] = lambda app: None,
    on_ready: Callable[[int], None] = lambda port: None,
) -> None:
    """Serves models until it is interrupted.

    Args:
        worker: what computes; closed at the end.
        host: address to listen at.
        port: to listen at; 0 is any that is free.
        keys: who may ask.
        engine_limits: of the queue, batches and jobs.
        limits: of a request, and of a key.
        origins: pages that browsers may ask from, besides the server's own.
        extend: adds other interfaces to the app.
        on_ready: called with the port, when the models are open and it listens.

    Raises:
        ValueError: if others than this machine could ask without a key.
        RuntimeError: if a model cannot be opened.
    """
    require_keys(host, keys)
    metrics = Metrics()
    engine = Engine(worker, engine_limits, metrics)
    app = build_app(engine, metrics=metrics, limits=limits, keys=keys, origins=origins)
    extend(app)
    listen(app, engine, host, port, patience=_PATIENCE, on_ready=on_ready)


def listen(
    app: FastAPI, engine: Engine, host: str, port: int, *, patience: int, on_ready: Callable[[int], None]
) -> None:
    """Serves an app until it is interrupted.

    Args:
        app: what to serve.
        engine: stopped at the end, before those who wait are hung up on.
        host: address to listen at.
        port: to listen at; 0 is any that is free.
        patience: seconds that open connections have at the end.
        on_ready: called with the port, as soon as it listens.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    config = uvicorn.Config(
        app, host=host, port=port, log_level="warning", server_header=False, timeout_graceful_shutdown=patience
    )
    with suppress(KeyboardInterrupt):
        _Server(config, engine, on_ready).run()


class _Server(uvicorn.Server):
    """Says when it listens, and answers those who wait before it hangs up."""

    def __init__(self, config: uvicorn.Config, engine: Engine, on_ready: Callable[[int], None]) -> None:
        super().__init__(config)
        self._engine = engine
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        self._engine.stop()
        await super().shutdown(sockets)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether it is more than that a page still listened when the server was stopped."""
    cancelled = record.exc_info is not None and isinstance(record.exc_info[1], CancelledError)
    return not cancelled and "timeout graceful shutdown exceeded" not in record.getMessage()
