"""The page that shows pairs and takes votes. What reaches the browser does not tell which side is which."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal

import uvicorn
from fastapi import Cookie, Depends, FastAPI, HTTPException, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from versatile_diffusion.provenance import png
from versatile_diffusion.voting.study import ShownPair, Study

HOSTS = ["127.0.0.1", "localhost", "[::1]"]
_COOKIE = "voter"
_YEAR = 365 * 24 * 3600
_VOTER = re.compile(r"[\w.-]{1,64}")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class VoteIn(BaseModel):
    """A vote on the pair that has this ticket."""

    model_config = ConfigDict(extra="forbid")

    pair: Annotated[str, Field(max_length=64)]
    choice: Literal["left", "same", "right"]


class PairOut(BaseModel):
    """A pair to vote on; its images are named by their tickets."""

    ticket: str
    prompt: str | None
    given: str | None
    left: str
    right: str


class VoterState(BaseModel):
    """How far a voter is; without a pair all is done."""

    done: int
    total: int
    pair: PairOut | None


def voter_of(voter: Annotated[str | None, Cookie()] = None) -> str:
    """Returns who asks. Raises HTTPException if that is not known."""
    if voter is None or not _VOTER.fullmatch(voter):
        raise HTTPException(401, "Open the page first: it says who you are.")
    return voter


Voter = Annotated[str, Depends(voter_of)]


def build(study: Study) -> FastAPI:
    """Returns the app of the page, and of what the page asks for."""
    app = FastAPI(title="Which picture is better?", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    app.get("/", response_class=HTMLResponse)(_page)
    app.get("/page.{kind}")(_asset)

    @app.get("/state")
    def state(voter: Voter, response: Response) -> VoterState:
        response.headers.update(_HEADERS)
        return _state(study, voter)

    @app.post("/vote")
    def vote(voter: Voter, cast: VoteIn) -> VoterState:
        either = (ShownPair(pair, a_left) for pair in study.pairs for a_left in (True, False))
        shown = next((shown for shown in either if _ticket(study, voter, shown) == cast.pair), None)
        if shown is None:
            raise HTTPException(404, "There is no such pair.")
        study.vote(voter, shown, shown.choice(cast.choice))
        return _state(study, voter)

    @app.post("/undo")
    def undo(voter: Voter) -> VoterState:
        study.undo(voter)
        return _state(study, voter)

    @app.get("/pictures/{ticket}")
    def image(voter: Voter, ticket: str) -> Response:
        for pair in study.pairs:
            for what in ("a", "b", "given"):
                if study.ticket(voter, pair, what) == ticket and (name := getattr(pair, what)) is not None:
                    return Response(_pixels(study.folder / name), media_type="image/png", headers=_HEADERS)
        raise HTTPException(404, "There is no such picture.")

    return app


def serve(study: Study, port: int, on_ready: Callable[[int], None]) -> None:
    """Serves the page on this machine until it is interrupted.

    Args:
        study: what to vote on.
        port: to listen at; 0 is any that is free.
        on_ready: called with the port, once it is taken.
    """
    config = uvicorn.Config(build(study), host="127.0.0.1", port=port, log_level="warning", server_header=False)
    with config.bind_socket() as taken, suppress(KeyboardInterrupt):
        on_ready(taken.getsockname()[1])
        uvicorn.Server(config).run([taken])


# ---- details ----


def _page(voter: str | None = None, known: Annotated[str | None, Cookie(alias=_COOKIE)] = None) -> Response:
    """The page itself. `/?voter=NAME` says who votes; without it a browser is one voter."""
    if voter is not None and not _VOTER.fullmatch(voter):
        raise HTTPException(422, "A voter's name has up to 64 letters, digits, dots, hyphens and underscores.")
    if voter is not None:
        response: Response = RedirectResponse("/", 303)
    else:
        response = HTMLResponse(_text("page.html"), headers=_HEADERS)
    name = voter or (known if known and _VOTER.fullmatch(known) else secrets.token_hex(8))
    response.set_cookie(_COOKIE, name, max_age=_YEAR, httponly=True, samesite="strict")
    return response


def _asset(kind: Literal["css", "js"]) -> Response:
    media = "text/css" if kind == "css" else "text/javascript"
    return Response(_text(f"page.{kind}"), media_type=media, headers=_HEADERS)


def _text(name: str) -> str:
    return files("versatile_diffusion.voting").joinpath(name).read_text("utf-8")


def _state(study: Study, voter: str) -> VoterState:
    order, voted = study.order(voter), {vote["pair"] for vote in study.votes(voter)}
    left_over = [shown for shown in order if shown.pair.key not in voted]
    pair = _out(study, voter, left_over[0]) if left_over else None
    return VoterState(done=len(order) - len(left_over), total=len(order), pair=pair)


def _ticket(study: Study, voter: str, shown: ShownPair) -> str:
    """The ticket of a pair and its sides, which change as soon as further pairs are ready."""
    return study.ticket(voter, shown.pair, f"pair, {'a' if shown.a_left else 'b'} on the left")


def _out(study: Study, voter: str, shown: ShownPair) -> PairOut:
    pair, sides = shown.pair, ("a", "b") if shown.a_left else ("b", "a")
    left, right = (study.ticket(voter, pair, side) for side in sides)
    given = None if pair.given is None else study.ticket(voter, pair, "given")
    return PairOut(ticket=_ticket(study, voter, shown), prompt=pair.prompt, given=given, left=left, right=right)


def _pixels(file: Path) -> bytes:
    """The image without the record of how it was made."""
    with Image.open(file) as image:
        return png(image.convert("RGB"))
