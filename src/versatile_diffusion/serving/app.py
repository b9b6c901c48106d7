"""The HTTP interface of an engine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, Response
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from versatile_diffusion import __version__
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.serving import jobs_api, openai_api, openai_audio
from versatile_diffusion.serving.access import AccessMiddleware
from versatile_diffusion.serving.docs_page import add_docs_page
from versatile_diffusion.serving.job_service import JobService
from versatile_diffusion.serving.keys import Keys
from versatile_diffusion.serving.limits import Limits
from versatile_diffusion.serving.metrics import CountingMiddleware, Metrics
from versatile_diffusion.serving.problems import RESPONSES, handle_problems
from versatile_diffusion.serving.schemas import generate_model


def build_app(
    engine: Engine,
    *,
    metrics: Metrics | None = None,
    limits: Limits = Limits(),
    keys: Keys | None = None,
    origins: Collection[str] = (),
) -> FastAPI:
    """The app that serves an engine, and closes it at its end.

    Args:
        engine: what computes.
        metrics: those that the engine reports to, if it does.
        limits: of a request, and of a key.
        keys: who may ask; everybody on this machine if there are none.
        origins: pages that browsers may ask from, besides the server's own.
    """

    @asynccontextmanager
    async def closing(app: FastAPI) -> AsyncGenerator[None]:
        yield
        engine.close()

    app = FastAPI(title="Versatile Diffusion", version=__version__, lifespan=closing, docs_url=None, redoc_url=None)
    metrics, keys = metrics or Metrics(), keys or Keys()
    metrics.watch_queue(lambda: engine.waiting)
    app.state.jobs = JobService(engine, limits)
    handle_problems(app)
    documented = [Depends(HTTPBearer(auto_error=False, description="An API key, where the server has any."))]
    for router in (jobs_api.router, openai_api.router, openai_audio.router):
        app.include_router(router, dependencies=documented)

    @app.get("/healthz", tags=["server"], responses={503: {"description": "It computes no more"}})
    def health() -> JSONResponse:
        """Whether jobs are computed."""
        alive = engine.is_alive
        status = {"status": "ok" if alive else "stopped", "waiting": engine.waiting}
        return JSONResponse(status, 200 if alive else 503)

    @app.get("/metrics", tags=["server"], dependencies=documented, responses=RESPONSES, response_class=Response)
    def measured() -> Response:
        """Counters for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    add_docs_page(app)
    _document(app)
    app.add_middleware(AccessMiddleware, keys=keys, rate=limits.rate, body=limits.body, origins=origins)
    app.add_middleware(CountingMiddleware, metrics=metrics)
    if origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(origins), allow_methods=["GET", "POST", "DELETE"], allow_headers=["*"]
        )
    return app


def _document(app: FastAPI) -> None:
    """Adds to the OpenAPI document what routes read by themselves."""
    plain = app.openapi

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schemas = plain()["components"]["schemas"]
            for model in (generate_model(), *openai_api.BODIES, *openai_audio.BODIES):
                read = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas |= read.pop("$defs", {}) | {model.__name__: read}
        return plain()

    app.openapi = document  # pyright: ignore[reportAttributeAccessIssue] - which is FastAPI's own way to extend it
