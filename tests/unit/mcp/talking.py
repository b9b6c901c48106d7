"""Talking to the tools as their clients do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from mcp import Client
from mcp_types import CallToolResult, TextContent

from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.mcp.server import tool_server
from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.serving.limits import Limits

T = TypeVar("T")
QUICK = {"num_inference_steps": 2, "seed": 7}


def talk(server: Any, conversation: Callable[[Client], Awaitable[T]], mode: str = "auto") -> T:
    """What a conversation with a server comes to: one in this process, an address, or a command to start."""

    async def run() -> T:
        async with Client(server, mode=mode) as client:
            return await conversation(client)

    with ThreadPoolExecutor(1) as own:  # where no loop runs, as that of a browser of other tests
        return own.submit(asyncio.run, run()).result()


def tools_of(engine: Engine, folder: Path | None = None, limits: Limits = Limits()) -> Any:
    """A server of an engine's tools."""

    async def jobs() -> JobService:
        return JobService(engine, limits)

    return tool_server(jobs, list(engine.models), folder)


def said(answer: CallToolResult) -> str:
    """The last text of an answer."""
    last = answer.content[-1]
    assert isinstance(last, TextContent)
    return last.text
