"""The studio reads nothing but what this visitor uploaded or was given, and results; and its functions are private."""

import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from PIL import Image
from safetensors.torch import save
from starlette.routing import Mount, Route

from tests.unit.serving.running import encoded
from tests.unit.studio.visiting import Guest, Studio, file, files_in, opened, regular
from versatile_diffusion.studio.options import advanced_controls
from versatile_diffusion.studio.tasks import TASKS

BLUE = encoded(Image.new("RGB", (8, 8), "blue"))


# ---- noticing what is read ----


@dataclass
class Watched:
    """What must not be opened or asked for; whoever does it all the same is stopped, and written down."""

    files: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()
    seen: tuple[str, ...] = ()


WATCHED = Watched()


def hook(event: str, arguments: tuple[Any, ...]) -> None:
    forbidden = False
    if event in ("open", "os.listdir", "os.scandir") and isinstance(arguments[0], str | os.PathLike):
        forbidden = os.path.realpath(arguments[0]) in WATCHED.files
    elif event in ("socket.getaddrinfo", "socket.connect") and WATCHED.hosts:
        host = arguments[0] if event == "socket.getaddrinfo" else arguments[1][0]
        forbidden = host not in WATCHED.hosts
    if forbidden:
        WATCHED.seen += (f"{event} {arguments[:2]}",)
        raise PermissionError(f"{arguments[0]} must not be read.")


sys.addaudithook(hook)


@pytest.fixture(autouse=True)
def nothing_forbidden_is_read() -> Iterator[None]:
    yield
    seen, WATCHED.seen = WATCHED.seen, ()
    assert seen == ()


# ---- the studio ----


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with opened(tmp_path_factory.mktemp("studio")) as studio:
        yield studio


@pytest.fixture
def guest(studio: Studio) -> Guest:
    return Guest(studio)


@pytest.fixture(scope="module")
def foreign(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Paths and addresses that no visitor may have read, by their kind."""
    host, other = tmp_path_factory.mktemp("host"), Guest(studio)
    secret = host / "secret.png"
    secret.write_bytes(BLUE)
    closed = host / "closed.png"
    closed.write_bytes(BLUE)
    closed.chmod(0)
    os.mkfifo(host / "pipe.png")
    planted = studio.uploads / "planted"
    planted.mkdir()
    (planted / "link.png").symlink_to(secret)
    (planted / "folder").symlink_to(host)
    (planted / "file.png").write_bytes(BLUE)
    name = "20260101-000000-edit-0123abcd.png"
    (studio.history.folder / "results" / name).symlink_to(secret)
    (studio.history.folder / "results" / "inputs" / f"{'a' * 64}.png").write_bytes(BLUE)
    theirs = other.upload(encoded(Image.new("RGB", (8, 8), "green")), "theirs.png")
    yield {
        "a file of the host": str(secret),
        "one that may not be read": str(closed),
        "one that is missing": str(host / "missing.png"),
        "a relative path": os.path.relpath(secret),
        "a path with dots": f"{Path(theirs).parent}/../../{os.path.relpath(secret, studio.uploads.parent)}",
        "a quoted path": quote(str(secret), safe=""),
        "a path quoted twice": quote(quote(str(secret), safe="")),
        "a link among uploads": str(planted / "link.png"),
        "a linked folder among uploads": str(planted / "folder" / "secret.png"),
        "a file that nobody uploaded": str(planted / "file.png"),
        "what another uploaded": theirs,
        "the history's table": str(studio.history.folder / "history.db"),
        "an input in the history": str(studio.history.folder / "results" / "inputs" / f"{'a' * 64}.png"),
        "a link among results": str(studio.history.folder / "results" / name),
        "dots beyond results": str(studio.history.folder / "results" / ".." / "results" / "inputs" / f"{'a' * 64}.png"),
        "a folder": str(host),
        "the folder of uploads": str(studio.uploads),
        "a device": "/dev/zero",
        "a pipe": str(host / "pipe.png"),
        "a process": "/proc/self/environ",
        "an address": "http://secret.example/secret.png",
        "an encrypted address": "https://secret.example/secret.png",
        "an address of a file": f"file://{secret}",
        "an address of this machine": f"{studio.address}/healthz",
        "nothing": "",
        "a null character": f"{secret}\x00.png",
    }
    closed.chmod(0o600)


@pytest.fixture
def watched(studio: Studio, foreign: dict[str, str]) -> Iterator[None]:
    """Nothing of this may be opened, and nobody may be asked."""
    paths = {os.path.realpath(path) for path in foreign.values() if path.startswith("/") and "\x00" not in path}
    paths -= {os.path.realpath(studio.uploads)}  # where uploads are written
    WATCHED.files, WATCHED.hosts = frozenset(paths), frozenset({"127.0.0.1"})
    yield
    WATCHED.files = WATCHED.hosts = frozenset()


SHAPES = (
    lambda path: file(path),
    lambda path: {"path": path},
    lambda path: file(path, url=path, is_stream=True, orig_name="../a.png"),
    lambda path: {"url": path},
    lambda path: {"path": None, "url": path, "meta": {"_type": "gradio.FileData"}},
    lambda path: [file(path)],
    lambda path: [{"image": {"path": path}, "caption": None}],
    lambda path: [{"video": file(path), "caption": None}],
    lambda path: {"background": None, "layers": [{"path": path}], "composite": None},
    lambda path: {"background": file(path), "layers": [], "composite": file(path), "id": "drawing"},
    lambda path: {"value": {"deep": [[file(path)]]}},
)
"""Values that name a file, as any component of gradio takes them."""


@pytest.mark.usefixtures("watched")
def test_no_function_reads_a_foreign_path(studio: Studio, guest: Guest, foreign: dict[str, str]) -> None:
    answers: set[tuple[int, bytes]] = set()
    for number, function in studio.page.fns.items():
        for index, path in enumerate(foreign.values()):
            value = SHAPES[(number + index) % len(SHAPES)](path)
            event = guest.event(number, [value] * max(1, len(function.inputs)))
            way = ("queue/join", "run/predict")[(number // 2 + index) % 2]
            answer = guest.client.post(f"/gradio_api/{way}", json=event)
            answers.add((answer.status_code, answer.content))
    assert len(studio.page.fns) > 100
    [(status, content)] = answers  # one that is missing is not told apart from the others
    assert status == 404 and b"choose it again" in content


@pytest.mark.usefixtures("watched")
def test_no_place_among_the_values_is_read(studio: Studio, guest: Guest, foreign: dict[str, str]) -> None:
    paths = cycle(foreign.values())
    for task in TASKS:
        number = studio.function("_run", task.key)
        for place in range(len(studio.page.fns[number].inputs)):
            for shape in SHAPES:
                data: list[Any] = [None] * len(studio.page.fns[number].inputs)
                data[place] = shape(next(paths))
                assert guest.join(number, data).status_code == 404


@pytest.mark.usefixtures("watched")
def test_what_stands_beside_an_own_path_is_not_looked_at(studio: Studio, guest: Guest, foreign: dict[str, str]) -> None:
    own = guest.upload(BLUE)
    paths = list(foreign.values())
    for url, title, more in zip(paths[::3], paths[1::3], paths[2::3], strict=False):
        end = guest.run("image-to-text", file(own, url=url, orig_name=title, proxy_url=more))
        assert end["success"] and end["output"]["data"][0].startswith('<p class="vd-said"')
        chosen = {"event_data": {"index": 0, "value": file(url), "row_value": [file(title)]}, "trigger_id": 1}
        assert guest.call(studio.function("_shown"), ["all"], **chosen)


@pytest.mark.usefixtures("watched")
def test_no_foreign_file_is_fetched(studio: Studio, guest: Guest, foreign: dict[str, str]) -> None:
    answers: set[tuple[int, bytes]] = set()
    for path in foreign.values():
        for written in (quote(path), quote(path, safe=""), quote(quote(path))):
            for way in ("file=", "file/", "proxy=", "stream/"):
                answer = guest.client.get(f"/gradio_api/{way}{written}", headers={"Range": "bytes=0-3"})
                answers.add((answer.status_code, answer.content))
    [(status, _)] = answers
    assert status == 404


def routes(app: FastAPI) -> Iterator[APIRoute | Route]:
    for route in app.routes:
        if isinstance(route, APIRoute | Route):
            yield route


OPEN = {
    *("GET /", "HEAD /", "GET /config", "GET /theme.css", "GET /robots.txt", "GET /favicon.ico", "GET /manifest.json"),
    *("GET /gradio_api/info", "GET /gradio_api/app_id", "GET /gradio_api/heartbeat/{session_hash}"),
    *("POST /gradio_api/reset", "POST /gradio_api/cancel", "GET /gradio_api/queue/data"),
    *("GET /gradio_api/upload_progress", "POST /gradio_api/upload"),
    *("GET /openapi.json", "HEAD /openapi.json"),  # of the server's own API
}
"""What gradio answers to a visitor without a file, of all that it offers; each is checked below or reads no path."""


@pytest.mark.usefixtures("watched")
def test_no_other_way_leads_into_gradio(studio: Studio, guest: Guest, foreign: dict[str, str]) -> None:
    [page] = [route.app for route in studio.app.routes if isinstance(route, Mount)]
    passed = set()
    secret = quote(foreign["a file of the host"], safe="")
    for route in routes(page):  # pyright: ignore[reportArgumentType] - a mount may hold any app, and here it is a FastAPI
        path = route.path
        for part in ("api_name", "path", "path_or_url", "url_path", "key", "type", "file_name"):
            path = path.replace(f"{{{part}}}", secret).replace(f"{{{part}:path}}", secret)
        for method in route.methods or ():
            with guest.client.stream(method, path, json={"data": [file(foreign["a file of the host"])]}) as answer:
                if answer.status_code not in (403, 404):
                    passed.add(f"{method} {route.path}")
    assert passed - OPEN == set()


def test_deep_links_show_no_session(studio: Studio, guest: Guest) -> None:
    folder = studio.uploads / "deep_links" / "link"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text('[{"id": 1, "props": {"value": "a secret"}}]')
    for path in ("/", "/config"):
        answer = guest.client.get(path, params={"deep_link": "link"})
        assert answer.status_code == 200 and "a secret" not in answer.text
    assert guest.client.get("/gradio_api/deep_link", params={"session_hash": guest.session}).status_code == 404


def test_an_upload_that_becomes_a_link_is_not_read(guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(BLUE)
    first, second = guest.upload(BLUE, "first.png"), guest.upload(BLUE + b" ", "second.png")
    Path(first).unlink()
    Path(first).symlink_to(tmp_path / "secret.png")
    folder = Path(second).parent
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    for path in (first, second):
        assert guest.fetch(path).status_code == 404
        assert guest.join(guest.studio.function("_run", "image-to-text"), ["tiny", file(path)]).status_code == 404


# ---- visitors ----


def test_only_this_process_makes_visitors(studio: Studio, guest: Guest) -> None:
    own = guest.upload(BLUE)
    [(name, value)] = guest.client.cookies.items()
    assert name.endswith(studio.address.rpartition(":")[2])
    for forged in (value[:-1] + ("0" if value[-1] != "0" else "1"), value.partition(".")[0], "", ".", "é.é"):
        sent = {b"Cookie": f"{name}={forged}".encode()}
        asked = httpx.get(f"{studio.address}/gradio_api/file={own}", headers=sent)
        assert asked.status_code == 404 and name in asked.cookies
    header = httpx.get(studio.address).headers["set-cookie"]
    assert "HttpOnly" in header and "SameSite=Lax" in header
    assert "set-cookie" not in guest.client.get("/").headers and guest.fetch(own).status_code == 200


def test_sessions_are_not_shared(studio: Studio, guest: Guest) -> None:
    other = Guest(studio, session=guest.session)
    studio.worker.go.clear()
    filled = ["tiny", "a tent", 1, "fast", 3, *studio.options("text-to-image")]
    guest.join(studio.function("_run", "text-to-image"), filled).raise_for_status()
    assert other.results()[-1]["msg"] == "unexpected_error"
    studio.worker.go.set()
    assert any(message["msg"] == "process_completed" for message in guest.results())
    progress = {"upload_id": "mine"}
    guest.client.post("/gradio_api/upload", files={"files": ("a.png", BLUE)}, params=progress).raise_for_status()
    assert "done" in guest.client.get("/gradio_api/upload_progress", params=progress).text
    assert other.client.get("/gradio_api/upload_progress", params=progress).status_code == 404


def test_those_without_cookies_read_nothing(studio: Studio) -> None:
    guest = Guest(studio, cookies=False)
    path = guest.upload(BLUE)
    guest.client.cookies.clear()
    assert guest.fetch(path).status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"data": [], "session_hash": "a"}', 400),
        (b'{"data": {}, "fn_index": 1, "session_hash": "a"}', 400),
        (b'{"data": [], "fn_index": 1, "session_hash": null}', 400),
        (b'{"data": ' + b"[" * 100_000 + b"]" * 100_000 + b', "fn_index": 1, "session_hash": "a"}', 400),
        (b" " * 2**20 + b"{}", 413),
    ],
)
def test_what_the_page_does_not_send_is_refused(guest: Guest, body: bytes, status: int) -> None:
    for way in ("queue/join", "run/predict", "cancel"):
        assert guest.client.post(f"/gradio_api/{way}", content=body).status_code == status


# ---- what works ----


def test_own_uploads_are_read(studio: Studio, guest: Guest) -> None:
    own = guest.upload(BLUE, "my pic%é.png")
    assert guest.fetch(quote(own)).content == BLUE
    assert guest.run("image-to-text", file(own, orig_name="my pic%é.png", size=3, mime_type="image/png"))["success"]
    [context] = studio.worker.requests[-1].request.contexts
    assert np.array(context.data).tolist() == np.array(Image.open(own)).tolist()


def test_options_are_read_and_checked(studio: Studio, guest: Guest) -> None:
    def made(task: str, prompt: str, **given: object) -> str:
        to = next(each.to for each in TASKS if each.key == task)
        controls = advanced_controls(to, studio.worker.models["tiny"])
        how = [given.get(control.name, control.initial) for control in controls]
        guest.join(studio.function("_run", task), ["tiny", prompt, 1, "fast", 3, *how]).raise_for_status()
        return guest.results()[-2]["output"]["data"][0]

    assert "Done in" in made("text-variation", "a tent", top_k="40", temperature="", top_p=" 0.5 ")
    assert studio.worker.requests[-1].request.decoding == {"top_k": 40, "top_p": 0.5}
    assert "Done in" in made("text-to-image", "a tent", guidance_interval="0.2, 0.8", height="8", eta=1)
    request = studio.worker.requests[-1].request
    assert (request.guidance_interval, request.height, request.width, request.eta) == ((0.2, 0.8), 8, None, 1)
    assert "Top k is a whole number, or empty" in made("text-variation", "a tent", top_k="a few")
    assert "top_p must be above 0, got 0" in made("text-variation", "a tent", top_p="0")
    assert "0 &lt;= low &lt; high &lt;= 1" in made("text-to-image", "a tent", guidance_interval="0.8,0.2")
    assert "Give 2 numbers with a comma" in made("text-to-image", "a tent", guidance_interval="wide")


def test_paintings_are_read(studio: Studio, guest: Guest) -> None:
    layer = Image.new("RGBA", (8, 8))
    layer.paste("red", (0, 0, 4, 8))
    whole = {name: file(guest.upload(BLUE, f"{name}.png")) for name in ("background", "composite")}
    painted = {**whole, "layers": [file(guest.upload(encoded(layer), "layer_0.png"))]}
    rest = [None, 1.0, 0.5] * 3
    assert guest.run("multi-context", "", 1.0, painted, 1.0, 0.5, *rest)["success"]
    [context] = studio.worker.requests[-1].request.contexts
    assert isinstance(context.mask, Image.Image)
    assert np.array(context.mask)[0].tolist() == [0] * 4 + [255] * 4


def test_embeddings_are_read(studio: Studio, guest: Guest) -> None:
    import torch

    own = guest.upload(save({"image": torch.ones(2, 5, 4)}), "predicted.safetensors")
    assert guest.run("reconstruct", file(own), 1, 0.5)["success"]
    assert studio.worker.requests[-1].request.contexts[0].embedding is not None


def test_results_are_everybodys_until_they_are_deleted(studio: Studio, guest: Guest) -> None:
    end = guest.run("text-to-image", "a tent")
    made = sorted({path for path in files_in(end["output"]["data"]) if path.endswith(".png")})
    assert len(made) == 1 and Path(made[0]).parent == studio.history.folder / "results"
    for visitor in (guest, Guest(studio)):
        assert visitor.fetch(made[0]).content == Path(made[0]).read_bytes()
        assert visitor.run("image-to-text", file(made[0]))["success"]
    assert not [path for path in studio.uploads.rglob("*") if path.name == Path(made[0]).name]
    studio.history.delete(Path(made[0]).stem)
    assert guest.fetch(made[0]).status_code == 404


def test_a_result_becomes_the_input_of_its_visitor(studio: Studio, guest: Guest) -> None:
    guest.run("text-to-image", "a tent")
    to_image_to_text = studio.function("put")  # the first of them, below the results of the first tab
    [path] = files_in(guest.call(to_image_to_text, [None, None]))
    assert regular(path) and guest.fetch(path).status_code == 200 and Guest(studio).fetch(path).status_code == 404
    assert guest.run("image-to-text", file(path))["success"]


def test_examples_belong_to_those_who_click(studio: Studio, guest: Guest) -> None:
    fills = [number for number, one in studio.page.fns.items() if getattr(one.fn, "__name__", "") == "fill"]
    paths = [
        path for number in fills if not studio.page.fns[number].inputs for path in files_in(guest.call(number, []))
    ]
    other = Guest(studio)
    assert len(paths) > 10
    for path in paths:
        assert guest.fetch(path).status_code == 200 and other.fetch(path).status_code == 404


# ---- the page's functions are no interface ----


def test_the_functions_of_the_page_are_private(studio: Studio, guest: Guest) -> None:
    for query in ({}, {"all_endpoints": "true"}, {"page": ""}):
        known = guest.client.get("/gradio_api/info", params=query).json()
        assert known == {"named_endpoints": {}, "unnamed_endpoints": {}}
    config = guest.client.get("/config").json()
    assert {each["api_visibility"] for each in config["dependencies"]} == {"private"}
    names = [one.api_name for one in studio.page.fns.values()]
    body = {"data": [None], "session_hash": guest.session}
    for way in ("run", "api", "call", "call/v2"):
        for name in ("lambda", "lambda_3", "_run", "_run_1", *names[:20]):
            assert guest.client.post(f"/gradio_api/{way}/{name}", json=body).status_code == 404


def test_there_are_no_websockets(studio: Studio) -> None:
    asked = [
        "GET /gradio_api/queue/join HTTP/1.1",
        f"Host: {studio.address.removeprefix('http://')}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    with socket.create_connection(("127.0.0.1", int(studio.address.rpartition(":")[2]))) as line:
        line.sendall("\r\n".join([*asked, "", ""]).encode())
        assert b" 403 " in line.recv(100)
