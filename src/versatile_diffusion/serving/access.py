"""Who may ask, how often, and with how many bytes: checked before anything of a request's body is read."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection
from threading import Lock

from fastapi import HTTPException
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from versatile_diffusion._moved import former_names
from versatile_diffusion.serving.docs_page import FILES, PAGE
from versatile_diffusion.serving.keys import Keys, is_loopback
from versatile_diffusion.serving.problems import problem

OPEN_PATHS = ("/healthz", PAGE, "/openapi.json")


class Rate:
    """Requests of each owner within the last minute.

    Args:
        most: requests in a minute.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._times: dict[str, deque[float]] = {}
        self._lock = Lock()

    def wait(self, owner: str) -> int:
        """Counts a request. The answer is 0, or the seconds to wait if it is one too many, which is not counted."""
        with self._lock:
            now, times = time.monotonic(), self._times.setdefault(owner, deque())
            while times and now - times[0] >= 60:
                times.popleft()
            if len(times) >= self._most:
                return max(1, math.ceil(60 - (now - times[0])))
            times.append(now)
            return 0


class AccessMiddleware:
    """Lets requests through that may pass, and notes the owner in their state. An ASGI middleware.

    Args:
        app: what answers the requests that pass.
        keys: who may ask.
        rate: how many requests each key may send in a minute.
        body: how many bytes a request may have.
        origins: the pages that may ask besides the server's own.
    """

    def __init__(self, app: ASGIApp, keys: Keys, rate: int, body: int, origins: Collection[str] = ()) -> None:
        self._app = app
        self._keys = keys
        self._rate = Rate(rate)
        self._body = body
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        answer = self._refusal(headers, scope)
        await (answer or self._app)(scope, self._counted(receive), send)

    def _refusal(self, headers: Headers, scope: Scope) -> JSONResponse | None:
        """The answer to who may not ask."""
        if not self._is_own(headers):
            why = "Pages of other origins and requests under other host names are refused"
            return problem(403, f"{why}; vd serve lets them in with --allow-origin and --keys.")
        if scope["path"] not in OPEN_PATHS and not scope["path"].startswith(f"{FILES}/"):
            scheme, _, key = headers.get("authorization", "").partition(" ")
            owner = self._keys.owner(key.strip()) if scheme.lower() == "bearer" else None
            if self._keys and owner is None:
                how = {"WWW-Authenticate": "Bearer"}
                return problem(401, "Send a key, as in 'Authorization: Bearer KEY'.", "invalid_api_key", how)
            if self._keys and (wait := self._rate.wait(owner or "")):
                return problem(429, f"Too many requests: try again in {wait} s.", "rate", {"Retry-After": str(wait)})
            scope.setdefault("state", {})["owner"] = owner or ""
        length = headers.get("content-length", "0")
        return problem(413, self._too_large) if length.isdigit() and int(length) > self._body else None

    def _is_own(self, headers: Headers) -> bool:
        """Whether it may come from where it says. Only browsers name an origin.

        Without keys, every page that somebody on this machine looks at could ask. Such a page may have had its own name
        made to point here, and then its origin is the server's; so the server must be called by the machine's name.
        """
        origin, host = headers.get("origin"), headers.get("host", "")
        if not self._keys and not is_loopback(_name(host)):
            return False
        return origin is None or "*" in self._origins or origin in self._origins or origin.partition("//")[2] == host

    def _counted(self, receive: Receive) -> Receive:
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._body:
                raise HTTPException(413, self._too_large)
            return message

        return counted

    @property
    def _too_large(self) -> str:
        return f"A request may have {self._body} bytes at most."


def _name(host: str) -> str:
    """The Host header without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


__getattr__ = former_names(
    __name__,
    {
        "Access": "versatile_diffusion.serving.access:AccessMiddleware",
        "KEYS_VARIABLE": "versatile_diffusion.serving.keys:KEYS_VARIABLE",
    },
)
