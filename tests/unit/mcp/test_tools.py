"""The tools, asked for by the protocol's own client in this process."""

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mcp import Client, MCPError
from mcp_types import AudioContent, BlobResourceContents, CallToolResult, ImageContent, TextContent
from PIL import Image

from tests.unit.mcp.talking import QUICK, said, talk, tools_of
from tests.unit.modalities.tones import TONE, TONES, known, small_tones
from tests.unit.serving.running import Gate, encoded
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.engine.limits import EngineLimits
from versatile_diffusion.engine.results import BatchFailed, Failure, Reason
from versatile_diffusion.engine.workers import LocalWorker
from versatile_diffusion.mcp.server import tool_server
from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.serving.limits import Limits

TENT = {"to": "image", "contexts": ["a red tent"], **QUICK}


@pytest.fixture(scope="module")
def engine(session_pipe: VersatileDiffusionPipeline) -> Iterator[Engine]:
    engine = Engine(LocalWorker({"tiny": session_pipe}))
    yield engine
    engine.close()


def seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def opened(block: object) -> Image.Image:
    assert isinstance(block, ImageContent) and block.mime_type == "image/png"
    return Image.open(io.BytesIO(base64.b64decode(block.data)))


def address(answer: CallToolResult) -> str:
    return answer.structured_content["outputs"][0]["address"]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_picture_is_the_pipelines_and_carries_its_record(engine: Engine, pipe: Any, mode: str) -> None:
    told: list[tuple[float, float | None]] = []

    async def paint(client: Client) -> CallToolResult:
        async def progress(progress: float, total: float | None, message: str | None) -> None:
            told.append((progress, total))

        return await client.call_tool("generate", {**TENT, "num_outputs": 2}, progress_callback=progress)

    answer = talk(tools_of(engine), paint, mode)
    seeds = [seed(7), seed(8)]
    expected = pipe.text_to_image("a red tent", num_outputs=2, num_inference_steps=2, generator=seeds).images
    pictures = [opened(block) for block in answer.content[:2]]
    assert [picture.tobytes() for picture in pictures] == [picture.tobytes() for picture in expected]
    assert pictures[1].info["seed"] == "8" and "seed 8, vd://jobs/" in said(answer)
    assert answer.structured_content["model"] == "tiny"
    assert told[-1] == (2, 2) and [step for step, _ in told] == sorted({step for step, _ in told})


def test_each_task_takes_what_was_made_and_what_is_sent(engine: Engine, pipe: Any, picture: Image.Image) -> None:
    async def conversation(client: Client) -> dict[str, CallToolResult]:
        made = await client.call_tool("generate", TENT)
        block = made.content[0].model_dump(by_alias=True)
        base = base64.b64encode(encoded(picture)).decode()
        words = await client.call_tool("describe", {"image": block, "temperature": 0.5, **QUICK})
        vary = {"image": address(made), "fidelity": 0.5, "focus": 0.2, "color_adjust": True}
        mix = {"texts": [address(words)], "images": [base, address(made)], "weights": [2, 1, 1]}
        return {
            "words": words,
            "vary": await client.call_tool("vary", {**vary, **QUICK}),
            "edit": await client.call_tool("edit", {"image": base, "prompt": "a blue lighthouse", **QUICK}),
            "mix": await client.call_tool("mix", {**mix, **QUICK}),
            "both": await client.call_tool(
                "generate", {**TENT, "contexts": ["a tent", {"modality": "image", "data": block}]}
            ),
        }

    answers = talk(tools_of(engine), conversation)
    assert not any(answer.is_error for answer in answers.values()), {name: said(one) for name, one in answers.items()}
    words = answers.pop("words").content[0]
    assert isinstance(words, TextContent)
    (first,) = pipe.text_to_image("a red tent", num_inference_steps=2, generator=seed(7)).images
    options = {"fidelity": 0.5, "focus": 0.2, "color_adjust": True, "num_inference_steps": 2, "generator": seed(7)}
    (like,) = pipe.image_variation(first, **options).images
    assert opened(answers["vary"].content[0]).tobytes() == like.tobytes()
    assert opened(answers["mix"].content[0]).info["contexts"].count('"weight"') == 3


def test_the_arguments_are_those_of_every_request(engine: Engine) -> None:
    async def listed(client: Client) -> dict[str, Any]:
        return {tool.name: tool.input_schema for tool in (await client.list_tools()).tools}

    schemas = talk(tools_of(engine), listed)
    assert list(schemas) == ["generate", "describe", "vary", "edit", "mix"]
    for schema in schemas.values():
        assert {"model", "seed", "num_outputs"} <= schema["properties"].keys()
    assert "temperature" in schemas["describe"]["properties"] and "temperature" not in schemas["vary"]["properties"]
    assert {"prompt", "remove", "add", "text_share"} <= schemas["edit"]["properties"].keys()
    assert not {"wait", "preview_every"} & schemas["generate"]["properties"].keys()


@pytest.mark.parametrize(
    ("tool", "arguments", "told"),
    [
        ("paint", {}, "There is no tool 'paint', only generate, describe"),
        ("vary", {"image": "!"}, "base64"),
        ("vary", {}, "image is missing"),
        ("vary", {"image": "", "fidelity": 2}, "fidelity must be 1 or less, got 2."),
        ("edit", {"image": ""}, "Nothing to change"),
        ("mix", {}, "There is nothing to mix"),
        ("mix", {"texts": ["a tent"], "weights": [1, 2]}, "give one for each"),
        ("generate", {**TENT, "num_inference_steps": 51}, "50 steps at most, got 51"),
        ("generate", {**TENT, "contexts": ["x" * 4000]}, "more than a call may send"),
        ("generate", {**TENT, "model": "other"}, "There is no model 'other'"),
        ("describe", {"image": f"vd://jobs/{'0' * 32}/0"}, "no such job"),
        ("describe", {"image": "vd://files/a.png"}, "vd mcp with --folder"),
    ],
)
def test_what_cannot_be_is_told_in_words(engine: Engine, tool: str, arguments: dict[str, Any], told: str) -> None:
    server = tools_of(engine, limits=Limits(steps=50, body=3000))
    answer = talk(server, lambda client: client.call_tool(tool, arguments))
    assert answer.is_error and told in said(answer), said(answer)


def test_outputs_and_files_are_resources(engine: Engine, tmp_path: Path, picture: Image.Image) -> None:
    folder = tmp_path / "pictures"
    (folder / "of trips").mkdir(parents=True)
    picture.save(folder / "of trips" / "a tent.png")
    picture.save(tmp_path / "secret.png")
    (folder / "notes.json").write_text("{}")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")

    async def conversation(client: Client) -> None:
        found = {one.uri for one in (await client.list_resources()).resources}
        place = "vd://files/of%20trips/a%20tent.png"
        assert place in found and not any("notes" in uri for uri in found)
        (read,) = (await client.read_resource(place)).contents
        assert isinstance(read, BlobResourceContents) and read.mime_type == "image/png"
        assert not (await client.call_tool("describe", {"image": place, **QUICK})).is_error
        made = await client.call_tool("generate", TENT)
        (read,) = (await client.read_resource(address(made))).contents
        assert isinstance(read, BlobResourceContents)
        assert Image.open(io.BytesIO(base64.b64decode(read.blob))).tobytes() == opened(made.content[0]).tobytes()
        for other in ("vd://files/../secret.png", "vd://files/link.png", "vd://files/notes.json", f"{address(made)}9"):
            with pytest.raises(MCPError, match="There is no"):
                await client.read_resource(other)

    talk(tools_of(engine, folder), conversation)


def test_a_call_that_is_taken_back_is_cancelled_and_a_full_queue_is_told() -> None:
    gate = Gate()
    engine = Engine(gate, EngineLimits(queue=1))

    async def conversation(client: Client) -> None:
        first = asyncio.create_task(client.call_tool("generate", TENT))
        await asyncio.to_thread(gate.running.wait)
        second = asyncio.create_task(client.call_tool("generate", {**TENT, "to": "text"}))
        while not engine.waiting:
            await asyncio.sleep(0.01)
        assert "try again in" in said(await client.call_tool("generate", TENT))
        second.cancel()
        while engine.waiting:
            await asyncio.sleep(0.01)
        gate.go.set()
        assert not (await first).is_error
        assert "server's log says where" in said(await client.call_tool("generate", {**TENT, "seed": 13}))

    talk(tools_of(engine), conversation)
    engine.close()
    assert len(gate.batches) == 2


def test_models_that_cannot_be_opened_are_told_to_who_calls() -> None:
    async def jobs() -> JobService:
        raise BatchFailed(Failure(Reason.CRASHED, "There is no model at nowhere."))

    answer = talk(tool_server(jobs, ["nowhere"]), lambda client: client.call_tool("generate", TENT))
    assert answer.is_error and said(answer) == "There is no model at nowhere."


def test_a_modality_that_no_tool_knows_is_made_and_taken(session_pipe: VersatileDiffusionPipeline) -> None:
    with known():
        modalities: dict[str, Any] = {"tone": small_tones(), "text": session_pipe.modality("text")}
        layers = {name: modality.data_layers for name, modality in modalities.items()}
        widths = {name: modality.context_dim for name, modality in modalities.items()}
        diffuser = Diffuser(DiffuserConfig(64, (1,), (1,), (True,), num_heads=4), layers, widths).eval()
        pipe = VersatileDiffusionPipeline(diffuser, session_pipe.scheduler, modalities)
        pipe.set_progress_bar_config(disable=True)
        engine = Engine(LocalWorker({"tones": pipe}))
        wave = base64.b64encode(TONE.codec.encode(TONES[0])).decode()

        async def conversation(client: Client) -> None:
            asked = {"to": "tone", "contexts": [{"modality": "tone", "data": wave}], "volume": 0.5, **QUICK}
            made = await client.call_tool("generate", asked)
            assert isinstance(made.content[0], AudioContent), said(made)
            assert made.content[0].mime_type == "audio/wav"
            seen = {"modality": "tone", "data": made.content[0].model_dump(by_alias=True)}
            assert not (await client.call_tool("generate", {"to": "text", "contexts": [seen], **QUICK})).is_error

        talk(tools_of(engine), conversation)
        engine.close()
