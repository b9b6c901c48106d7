"""The tools over standard input and output, for a client that starts this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mcp.server.stdio import stdio_server

from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.workers import Worker
from versatile_diffusion.mcp.server import tool_server
from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.serving.limits import Limits


async def serve_stdio(
    start: Callable[[], Worker],
    models: Sequence[str],
    *,
    folder: Path | None = None,
    engine_limits: EngineLimits = EngineLimits(),
    limits: Limits = Limits(),
) -> None:
    """Serves the tools until the client hangs up. It answers at once: only calls wait until the models are open.

    Args:
        start: starts what computes, when the standard streams are the protocol's alone and nothing else writes there.
        models: names of the models, the default first.
        folder: whose files can be named; None if none can.
        engine_limits: of the queue, batches and jobs.
        limits: of a request.
    """
    async with stdio_server() as (reading, writing):
        worker = start()
        with ThreadPoolExecutor(1) as thread:
            opening = thread.submit(lambda: JobService(Engine(worker, engine_limits), limits))
            server = tool_server(lambda: asyncio.wrap_future(opening), models, folder)
            try:
                await server.run(reading, writing, server.create_initialization_options())
            finally:
                if opening.done() and opening.exception() is None:
                    opening.result().engine.close()
                else:
                    worker.close()
