"""The server of the tools, whatever it is reached by: each call is a job of the engine, which it waits for."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from anyio import to_thread
from fastapi import HTTPException
from mcp.server import Server, ServerRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    Resource,
    ResourceTemplate,
    Tool,
    ToolAnnotations,
)
from pydantic import ValidationError

from versatile_diffusion import __version__
from versatile_diffusion.engine.jobs import Job
from versatile_diffusion.engine.refusals import NotTaken
from versatile_diffusion.mcp.addresses import OUTPUTS, Addresses, file_addresses
from versatile_diffusion.mcp.answers import ToolAnswer, answer_of, refusal, resource_of
from versatile_diffusion.mcp.inputs import Arguments
from versatile_diffusion.mcp.tools import TOOLS, EngineTool
from versatile_diffusion.serving.job_service import JobService, job_states, made_by
from versatile_diffusion.serving.words import in_words

log = logging.getLogger(__name__)

_MOST_FILES = 1000
Request = ServerRequestContext[Any, Any]


class ToolServer:
    """Answers what the protocol asks.

    Args:
        jobs: gives the jobs of the engine, as soon as its models are open.
        folder: whose files can be named; None if none can.
    """

    def __init__(self, jobs: Callable[[], Awaitable[JobService]], folder: Path | None = None) -> None:
        self._jobs = jobs
        self._folder = folder
        self._tools = {tool.name: tool for tool in TOOLS}

    async def list_tools(self, context: Request, _: PaginatedRequestParams | None) -> ListToolsResult:
        """The tools, with their arguments as JSON Schema."""
        return ListToolsResult(tools=[_listed(tool) for tool in self._tools.values()])

    async def call_tool(self, context: Request, call: CallToolRequestParams) -> CallToolResult:
        """What a tool makes, or in words why nothing comes of it. A call that its client takes back is cancelled."""
        tool = self._tools.get(call.name)
        if tool is None:
            return refusal(f"There is no tool {call.name!r:.100}, only {', '.join(self._tools)}.")
        try:
            return await self._made(context, tool, call.arguments or {})
        except ValidationError as error:
            return refusal(in_words(error, tool.model()))
        except HTTPException as error:
            return refusal(str(error.detail))
        except (ValueError, NotTaken) as error:
            return refusal(str(error))
        except RuntimeError as error:  # the models could not be opened
            log.error("A call failed", exc_info=error)
            return refusal(str(error))

    async def _made(self, context: Request, tool: EngineTool, given: dict[str, Any]) -> CallToolResult:
        jobs, owner = await self._jobs(), owner_of(context)
        arguments = Arguments(Addresses(jobs, owner, self._folder).at, jobs.limits.body)
        read = await to_thread.run_sync(arguments.read, given)
        job = await jobs.submit(tool.read(read).read, arguments.files, owner)
        try:
            await _watch(context, job)
        finally:
            if not job.state.is_final:  # the client went away, or took the call back
                jobs.engine.cancel(job)
        return await to_thread.run_sync(answer_of, job, made_by(job))

    async def list_resources(self, context: Request, _: PaginatedRequestParams | None) -> ListResourcesResult:
        """The files that can be named. Outputs are named by who made them."""
        found = [] if self._folder is None else await to_thread.run_sync(_files, self._folder)
        return ListResourcesResult(resources=found)

    async def list_templates(self, context: Request, _: PaginatedRequestParams | None) -> ListResourceTemplatesResult:
        """How outputs are named."""
        about = "An output of a tool, as long as the server keeps it."
        template = ResourceTemplate(name="output", uri_template=OUTPUTS, description=about)
        return ListResourceTemplatesResult(resource_templates=[template])

    async def read_resource(self, context: Request, asked: ReadResourceRequestParams) -> ReadResourceResult:
        """An output, or a file. Raises MCPError if it is not there."""
        place, addresses = str(asked.uri), Addresses(await self._jobs(), owner_of(context), self._folder)
        try:
            return await to_thread.run_sync(lambda: resource_of(place, addresses.at(place)))
        except HTTPException as error:
            raise MCPError(INVALID_PARAMS, str(error.detail)) from error
        except ValueError as error:
            raise MCPError(INVALID_PARAMS, str(error)) from error


def tool_server(
    jobs: Callable[[], Awaitable[JobService]], models: Sequence[str], folder: Path | None = None
) -> Server[Any]:
    """A server of the protocol.

    Args:
        jobs: gives the jobs of the engine, as soon as its models are open.
        models: their names, the default first.
        folder: whose files can be named; None if none can.
    """
    answers = ToolServer(jobs, folder)
    files = "" if folder is None else " The resources are files that tools take in the same way."
    return Server(
        "versatile-diffusion",
        version=__version__,
        title="Versatile Diffusion",
        instructions=(
            "Paints pictures from words and pictures, and describes pictures in words, with one diffusion model. "
            f"Models: {', '.join(models)}. Tools answer with the outputs and their addresses; an address (vd://jobs/…) "
            f"can be given to any tool in place of a picture.{files} Equal seeds give equal outputs."
        ),
        on_list_tools=answers.list_tools,
        on_call_tool=answers.call_tool,
        on_list_resources=answers.list_resources,
        on_list_resource_templates=answers.list_templates,
        on_read_resource=answers.read_resource,
    )


def owner_of(context: Request) -> str:
    """Who asks, as `AccessMiddleware` has noted it; nobody in particular over stdio."""
    return getattr(getattr(context.request, "state", None), "owner", "")


async def _watch(context: Request, job: Job) -> None:
    """Tells the client of each step until the job is final."""
    told = -1
    async for state in job_states(job):
        if state.step > told:  # which the protocol asks for
            told = state.step
            await context.session.report_progress(told, state.steps or None, f"{state.status.value}: {job.request.to}")


def _files(folder: Path) -> list[Resource]:
    places = islice(file_addresses(folder), _MOST_FILES)
    return [Resource(name=unquote(place.rpartition("/")[2]), uri=place) for place in places]


def _listed(tool: EngineTool) -> Tool:
    return Tool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.schema,
        output_schema=ToolAnswer.model_json_schema(),
        annotations=ToolAnnotations(read_only_hint=True, destructive_hint=False, open_world_hint=False),
    )
