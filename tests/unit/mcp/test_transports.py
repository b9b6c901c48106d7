"""The tools over streamable HTTP beside the rest of the server, and over the standard streams of a real process."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, ImageContent
from typer.testing import CliRunner

from tests.unit.mcp.talking import QUICK, said, talk
from tests.unit.serving.running import Gate, listening
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.workers import LocalWorker
from versatile_diffusion.mcp.http import add_tools
from versatile_diffusion.serving.app import build_app
from versatile_diffusion.serving.keys import Keys

TENT = {"to": "image", "contexts": ["a red tent"], **QUICK}
KEYS = ("a-key-for-the-tests", "another-key-for-the-tests")


def with_key(address: str, key: str) -> Any:
    headers = {"Authorization": f"Bearer {key}"}
    return streamable_http_client(f"{address}/mcp", http_client=httpx2.AsyncClient(headers=headers, timeout=60))


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_it_is_one_server_with_the_rest_and_asks_for_keys(session_pipe: VersatileDiffusionPipeline, mode: str) -> None:
    served = build_app(Engine(LocalWorker({"tiny": session_pipe})), keys=Keys(KEYS))
    add_tools(served)
    steps: list[float] = []

    async def paint(client: Client) -> CallToolResult:
        async def progress(progress: float, total: float | None, message: str | None) -> None:
            steps.append(progress)

        return await client.call_tool("generate", TENT, progress_callback=progress)

    with listening(served) as address:
        made = talk(with_key(address, KEYS[0]), paint, mode)
        assert isinstance(made.content[0], ImageContent) and steps[-1] == 2
        job = made.structured_content["outputs"][0]["address"]
        seen = {"image": job, **QUICK}
        mine = talk(with_key(address, KEYS[0]), lambda client: client.call_tool("describe", seen), mode)
        others = talk(with_key(address, KEYS[1]), lambda client: client.call_tool("describe", seen), mode)
        assert not mine.is_error and others.is_error and "no such job" in said(others)
        head = {"Authorization": f"Bearer {KEYS[0]}"}
        found = httpx.get(f"{address}/v1/jobs/{job.split('/')[3]}", headers=head).json()
        assert found["status"] == "succeeded" and found["outputs"][0]["image"] == made.content[0].data
        assert httpx.post(f"{address}/mcp", json={}).status_code == 401
        assert httpx.post(f"{address}/mcp", json={}, headers={**head, "Origin": "http://evil.org"}).status_code == 403


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_call_that_is_taken_back_over_http_is_cancelled(mode: str) -> None:
    gate = Gate()
    engine = Engine(gate)
    served = build_app(engine)
    add_tools(served)

    async def leave(client: Client) -> None:
        call = asyncio.create_task(client.call_tool("generate", TENT))
        await asyncio.to_thread(gate.running.wait)
        call.cancel()
        while engine.unfinished(""):
            await asyncio.sleep(0.01)

    with listening(served) as address:
        talk(f"{address}/mcp", leave, mode)
    assert gate.batches == [[7]]


def test_files_are_for_those_who_start_it(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["mcp", "--http", "--folder", str(tmp_path)])
    assert refused.exit_code == 2 and "over stdio alone" in refused.output
    assert " vd mcp --folder ~/Pictures" in CliRunner().invoke(app, ["mcp", "--help"]).stdout


@pytest.mark.slow
def test_a_process_answers_at_once_and_paints_when_its_model_is_open(model: Path) -> None:
    command = StdioServerParameters(
        command=sys.executable,
        args=["-m", "versatile_diffusion.cli", "mcp", "--model", f"tiny={model}", "--steps", "20"],
        env={"PYTHONPATH": ":".join(path for path in sys.path if path.endswith("src"))},
    )

    async def conversation(client: Client) -> None:
        assert client.instructions is not None and "Models: tiny." in client.instructions
        assert len((await client.list_tools()).tools) == 5
        made = await client.call_tool("generate", TENT)
        assert isinstance(made.content[0], ImageContent), said(made)
        words = await client.call_tool("describe", {"image": made.structured_content["outputs"][0]["address"], **QUICK})
        assert not words.is_error
        assert "20 steps at most" in said(await client.call_tool("generate", {**TENT, "num_inference_steps": 21}))

    talk(command, conversation)
