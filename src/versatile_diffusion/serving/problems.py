"""Answers where something went wrong, all of one form, which is OpenAI's."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from versatile_diffusion.engine.refusals import Busy, Closed, TooLong
from versatile_diffusion.engine.results import Failure, Reason, shortened
from versatile_diffusion.serving.schemas import ErrorOut, Problem
from versatile_diffusion.serving.words import in_words

TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}
STATUS = {Reason.INVALID: 422, Reason.CRASHED: 500, Reason.TIMEOUT: 504, Reason.CLOSED: 503}
RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "No key, or a wrong one"},
    403: {"model": Problem, "description": "A page of another origin"},
    413: {"model": Problem, "description": "More bytes than a request may have"},
    422: {"model": Problem, "description": "Not what is expected, or more than a limit allows"},
    429: {"model": Problem, "description": "The queue is full, or the key asks for too much"},
    503: {"model": Problem, "description": "The server is being stopped"},
}
JSON_RESPONSES = RESPONSES | {400: {"model": Problem, "description": "Not a body of that type"}}
MADE_RESPONSES = JSON_RESPONSES | {
    404: {"model": Problem, "description": "No such model"},
    409: {"model": Problem, "description": "The job was cancelled"},
    415: {"model": Problem, "description": "Neither JSON nor multipart"},
    500: {"model": Problem, "description": "The computation failed"},
    504: {"model": Problem, "description": "The computation took too long"},
}


def problem(status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer of that form."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = Problem(error=ErrorOut(message=shortened(message), type=kind, code=code))
    return JSONResponse(body.model_dump(), status, headers)


def failed(failure: Failure) -> HTTPException:
    """The answer to who waited for a job that failed."""
    return HTTPException(STATUS[failure.reason], failure.message)


def handle_problems(app: FastAPI) -> None:
    """Gives every error of the app that form."""

    @app.exception_handler(StarletteHTTPException)
    async def http(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), headers=dict(error.headers or {}) or None)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, in_words(error))

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        return problem(429, str(error), "busy", {"Retry-After": str(error.retry_after)})

    @app.exception_handler(TooLong)
    async def too_long(request: Request, error: TooLong) -> JSONResponse:
        return problem(422, str(error))

    @app.exception_handler(Closed)
    async def closed(request: Request, error: Closed) -> JSONResponse:
        return problem(503, str(error))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return problem(499, "The request did not come to its end.")  # nobody reads it, but it is counted

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        return problem(500, "Something went wrong in the server; its log says where.")
