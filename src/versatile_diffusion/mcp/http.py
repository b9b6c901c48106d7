"""The tools over streamable HTTP, beside all that `vd serve` offers: one engine, one queue, the same keys."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Route

from versatile_diffusion.mcp.server import tool_server
from versatile_diffusion.serving.job_service import JobService

PATH = "/mcp"


def add_tools(app: FastAPI) -> None:
    """Adds the tools to the app of a server, which checks keys, origins, rates and sizes before they see a request."""
    jobs: JobService = app.state.jobs

    async def opened() -> JobService:
        return jobs

    manager = StreamableHTTPSessionManager(
        app=tool_server(opened, list(jobs.engine.models)),
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        max_request_body_size=jobs.limits.body,
    )
    router = APIRouter(lifespan=lambda _: manager.run())
    router.routes.append(Route(PATH, endpoint=StreamableHTTPASGIApp(manager), include_in_schema=False))
    app.include_router(router)
