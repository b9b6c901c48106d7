"""A real browser, headless, and a real studio for it."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Request, ViewportSize, sync_playwright

from tests.browser.visiting import PATIENCE, Studio, Visit
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.engine.workers import Source, open_models


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium. Without one the tests are skipped, but where VD_REQUIRE_BROWSER is set they fail."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        message = "There is no Chromium: install it, such as with apt-get install chromium."
        if os.environ.get("VD_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


def studio_in(folder: Path) -> Studio:
    """A studio, not started yet, that keeps its history in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return Studio(folder / "history", port)


@pytest.fixture(scope="session")
def painter() -> VersatileDiffusionPipeline:
    """The model of the studio, as `vd replay` opens it."""
    return open_models([Source("postcards", "postcards")])["postcards"]


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Studio]:
    studio = studio_in(tmp_path_factory.mktemp("studio"))
    studio.start()
    yield studio
    studio.stop()


@cache
def visitor(browser: Browser) -> BrowserContext:
    """The one visitor, who keeps what pages load."""
    return browser.new_context()


WIDE: ViewportSize = {"width": 1440, "height": 900}


def visited(browser: Browser, studio: Studio, viewport: ViewportSize = WIDE, color_scheme: Any = "light") -> Visit:
    """A window. Nothing in it may ask another host.

    All windows are those of one visitor, so that what a page loads is there for the next one.
    """
    page = visitor(browser).new_page()
    page.set_viewport_size(viewport)
    page.emulate_media(color_scheme=color_scheme)
    page.set_default_timeout(PATIENCE)
    visit = Visit(page, studio)

    def note(asked: Request) -> None:
        visit.asked.append(asked.url)

    page.on("request", note)
    visit.open()
    return visit


@contextmanager
def visiting(browser: Browser, studio: Studio, **options: Any) -> Iterator[Visit]:
    """A window that is closed in the end, once it is checked that nothing in it asked another host."""
    visit = visited(browser, studio, **options)
    yield visit
    visit.page.close()
    own = (f"{studio.address}/", "data:", f"blob:{studio.address}/")
    assert [url for url in visit.asked if not url.startswith(own)] == []


@pytest.fixture
def visit(browser: Browser, studio: Studio, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A window of its own; a test may ask for options of it."""
    with visiting(browser, studio, **getattr(request, "param", {})) as visit:
        yield visit


@pytest.fixture(scope="module")
def tabs(browser: Browser, studio: Studio) -> Iterator[Visit]:
    """A window for all tests that need no more than a tab to themselves: a page takes longer to load than most."""
    with visiting(browser, studio) as visit:
        yield visit
