"""What stands before gradio: lets through what the page asks for, and only files that the visitor may read.

gradio reads whatever path a request names, since it checks only apps that were launched, not mounted ones; it fetches
addresses, and it keeps no visitor from another's session. So nothing reaches it but the few requests that the page
sends. In these every file is one of the visitor's or of the history, nothing about a file is said but its path and
title, and the names that browsers choose for sessions and uploads are replaced by names that belong to the visitor.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import PurePath
from typing import NoReturn, TypeVar, cast
from urllib.parse import urlencode

import gradio as gr
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ValidationError, field_validator
from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from versatile_diffusion.studio.visitors import UnreadableFile, Visitor, VisitorCookies

_API = "/gradio_api"
_OPEN = re.compile(
    r"/|/(config|theme\.css|manifest\.json|favicon\.ico|robots\.txt)|/(static|assets)/.+"
    rf"|{_API}/(info|app_id)"
)
"""What everybody may read: the page, and files of gradio."""
_FILE = f"{_API}/file="
_HEARTBEAT = f"{_API}/heartbeat/"
_LARGEST = 2**20
"""Bytes of JSON; files are uploaded, not sent in it."""


class RefusedRequest(Exception):
    """A request that goes no further.

    Args:
        status: of the answer.
        message: for people.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class SelectedItem(BaseModel):
    """Which of several things was chosen, as the page tells functions that ask for it."""

    index: object = None
    value: object = None


class PageEvent(BaseModel):
    """What the page sends when something is clicked or changed; whatever else is in a request is left out."""

    fn_index: int
    data: list[object]
    session_hash: str
    trigger_id: int | None = None
    event_data: SelectedItem | None = None

    @field_validator("event_data", mode="before")
    @classmethod
    def _says_what_was_chosen(cls, value: object) -> object:
        """What is told of a change is the new value, which is among the data as well."""
        return None if isinstance(value, str | int | float | list) else value


class EventCancellation(BaseModel):
    """What the page sends to stop an event."""

    session_hash: str
    fn_index: int
    event_id: str


_Body = TypeVar("_Body", PageEvent, EventCancellation)


@dataclass
class PageRequest:
    """A request on its way to gradio.

    Attributes:
        scope: of ASGI, and what may be changed before it goes on.
        receive: gives its body.
        send: takes its answer.
        visitor: who asks.
    """

    scope: Scope
    receive: Receive
    send: Send
    visitor: Visitor


class Guard:
    """Stands before gradio. An ASGI middleware.

    Args:
        app: gradio.
        visitors: knows who asks.
    """

    def __init__(self, app: ASGIApp, visitors: VisitorCookies) -> None:
        self._app = app
        self._visitors = visitors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008, "reason": ""})
        host = Headers(scope=scope).get("host", "")
        visitor = self._visitors.known(HTTPConnection(scope).cookies, host)
        if visitor is None:
            visitor = self._visitors.new()
            send = _with_cookie(send, self._visitors.cookie(visitor, host))
        state = {**scope.get("state", {}), "visitor": visitor}
        asked = PageRequest({**scope, "state": state}, receive, send, visitor)
        try:
            await self._way(asked)(asked)
            await self._app(asked.scope, asked.receive, asked.send)
        except RefusedRequest as refusal:
            words = str(refusal)  # gradio's page shows one or the other
            await JSONResponse({"detail": words, "error": words}, refusal.status)(scope, receive, send)

    def _way(self, asked: PageRequest) -> Callable[[PageRequest], Awaitable[None]]:
        """What to check and to change, by what is asked for."""
        path: str = asked.scope["path"]
        if asked.scope["method"] in ("GET", "HEAD"):
            if _OPEN.fullmatch(path):
                return self._open
            if path.startswith(_FILE):
                return self._file
            if path.startswith(_HEARTBEAT):
                return self._heartbeat
            return {f"{_API}/queue/data": self._results, f"{_API}/upload_progress": self._progress}.get(path, _nothing)
        if asked.scope["method"] == "POST":
            ways = {"queue/join": self._event, "run/predict": self._event, "cancel": self._cancel}
            ways |= {"upload": self._upload, "reset": self._reset}
            return ways.get(path.removeprefix(f"{_API}/"), _nothing)
        return _nothing

    # ---- what may pass ----

    async def _open(self, asked: PageRequest) -> None:
        asked.scope["query_string"] = b""  # which could name a deep link: the state of a session

    async def _file(self, asked: PageRequest) -> None:
        if not asked.visitor.may_read(asked.scope["path"].removeprefix(_FILE)):
            await _nothing(asked)

    async def _heartbeat(self, asked: PageRequest) -> None:
        session = asked.scope["path"].removeprefix(_HEARTBEAT)
        self._go_to(asked, _HEARTBEAT + self._visitors.private(asked.visitor, session))

    async def _results(self, asked: PageRequest) -> None:
        self._rename(asked, "session_hash")

    async def _progress(self, asked: PageRequest) -> None:
        self._rename(asked, "upload_id")

    async def _event(self, asked: PageRequest) -> None:
        event = await _read(asked, PageEvent)
        event.session_hash = self._visitors.private(asked.visitor, event.session_hash)
        try:
            event.data = [_cleaned(value, asked.visitor) for value in event.data]
        except UnreadableFile as error:
            raise RefusedRequest(404, str(error)) from error
        if event.event_data is not None:
            event.event_data.value = None  # which could name a file, and no function looks at it
        _send_on(asked, event)

    async def _cancel(self, asked: PageRequest) -> None:
        body = await _read(asked, EventCancellation)
        body.session_hash = self._visitors.private(asked.visitor, body.session_hash)
        _send_on(asked, body)

    async def _upload(self, asked: PageRequest) -> None:
        self._rename(asked, "upload_id")
        asked.send = _noting_uploads(asked)

    async def _reset(self, asked: PageRequest) -> None:
        """It does nothing in gradio, either."""

    # ---- names ----

    def _rename(self, asked: PageRequest, key: str) -> None:
        """Keeps that one parameter of the query, made private."""
        given = QueryParams(asked.scope["query_string"]).get(key)
        query = {} if given is None else {key: self._visitors.private(asked.visitor, given)}
        asked.scope["query_string"] = urlencode(query).encode()

    def _go_to(self, asked: PageRequest, path: str) -> None:
        asked.scope.update({"path": path, "raw_path": path.encode()})


def visitor_of(request: gr.Request) -> Visitor:
    """Who clicked, for functions of the page."""
    return request.state.visitor


async def _nothing(asked: PageRequest) -> NoReturn:
    """The answer to everything else, and to every path that a visitor may not read."""
    raise RefusedRequest(404, "There is nothing here.")


def _cleaned(value: object, visitor: Visitor) -> object:
    """A value of an event with files that are the visitor's, of which only path and title are left.

    Raises:
        UnreadableFile: if another file is named.
    """
    if isinstance(value, list):
        return [_cleaned(each, visitor) for each in cast("list[object]", value)]  # as JSON has it
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, object]", value)  # as JSON has it
    if not fields.keys() & {"path", "url", "meta"}:  # as gradio's FileData, ImageData and their kin
        return {name: _cleaned(each, visitor) for name, each in fields.items()}
    path, title = fields.get("path"), fields.get("orig_name")
    if not isinstance(path, str) or not visitor.may_read(path):
        raise UnreadableFile
    shown = PurePath(title).name[:200] if isinstance(title, str) else None
    return {"path": path, "orig_name": shown, "meta": {"_type": "gradio.FileData"}}


async def _read(asked: PageRequest, form: type[_Body]) -> _Body:
    """The body."""
    content = bytearray()
    while True:
        message = await asked.receive()
        if message["type"] == "http.disconnect":
            raise RefusedRequest(400, "The request is not whole.")
        content += message.get("body", b"")
        if len(content) > _LARGEST:
            raise RefusedRequest(413, f"An event may have {_LARGEST} bytes at most.")
        if not message.get("more_body", False):
            break
    try:
        return form.model_validate_json(bytes(content))
    except ValidationError as error:
        raise RefusedRequest(400, "This is not what the page sends.") from error


def _send_on(asked: PageRequest, body: BaseModel) -> None:
    """Replaces the body."""
    content, receive = body.model_dump_json().encode(), asked.receive
    headers = MutableHeaders(raw=list(asked.scope["headers"]))
    headers["content-type"], headers["content-length"] = "application/json", str(len(content))
    asked.scope["headers"] = headers.raw
    waiting: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def received() -> Message:
        return waiting.pop() if waiting else await receive()  # then whether the client has left

    asked.receive = received


def _with_cookie(send: Send, cookie: str) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).append("set-cookie", cookie)
        await send(message)

    return sent


def _noting_uploads(asked: PageRequest) -> Send:
    """Writes down whose files gradio has taken, before the visitor hears of it."""
    send, start, content = asked.send, list[Message](), bytearray()

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.append(message)
            return
        content.extend(message.get("body", b""))
        if message.get("more_body", False):
            return
        if start[0]["status"] == 200:
            for path in json.loads(content):
                asked.visitor.own(path)
        await send(start[0])
        await send({"type": "http.response.body", "body": bytes(content)})

    return sent
