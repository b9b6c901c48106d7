"""A real studio, and a real browser that looks at it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright

from versatile_diffusion.app.controls import Control, Painted, Picture, Words

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
PATIENCE = int(os.environ.get("P", 120_000))  # milliseconds; a busy machine is slow, and nothing here is a measurement


@dataclass
class Studio:
    """`vd app` in a process of its own."""

    history: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        options = ["--port", str(self.port), "--history", str(self.history)]
        self.process = subprocess.Popen([sys.executable, "-m", "versatile_diffusion.cli", "app", *options])
        while True:
            assert self.process.poll() is None, "the studio ended"
            try:
                if httpx.get(f"{self.address}/healthz").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        finally:
            self.process.kill()

    def recipes(self) -> list[dict[str, Any]]:
        """Of the results in the history, the newest last."""
        files = sorted((self.history / "results").glob("*.json"), key=lambda file: file.stat().st_mtime)
        return [json.loads(file.read_text()) | {"file": str(file)} for file in files]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if found is None:
        message = "No Chromium to test the studio with: apt-get install chromium."
        if os.environ.get("VD_REQUIRE_BROWSER"):
            pytest.fail(message)
        pytest.skip(message)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Studio]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    studio = Studio(tmp_path_factory.mktemp("studio") / "history", port)
    studio.start()
    yield studio
    studio.stop()


@dataclass
class Visit:
    """The studio in a window."""

    page: Page
    studio: Studio
    asked: list[str] = field(default_factory=list)

    @property
    def panel(self) -> Any:
        """What the chosen tab shows."""
        return self.page.get_by_role("tabpanel").locator("visible=true").first

    def open(self) -> None:
        self.page.goto(self.studio.address)
        self.page.get_by_role("button", name="Generate").wait_for()

    def choose(self, tab: str) -> None:
        self.page.get_by_role("tab", name=tab, exact=True).click()
        self.page.locator(f"[role=tab][aria-selected=true]:text-is('{tab}')").wait_for()

    def click(self, button: str) -> None:
        self.panel.get_by_role("button", name=button, exact=True).click()

    def said(self, start: str) -> str:
        """What the status says, once it starts like this."""
        found = self.panel.locator(f"[role=status]:has-text('{start}'), [role=alert]:has-text('{start}')").first
        found.wait_for(timeout=PATIENCE)
        return found.inner_text()

    def generate(self) -> str:
        self.click("Generate")
        return self.said("Done in")

    def write(self, words: str, label: str = "Text") -> None:
        self.panel.get_by_label(label, exact=True).fill(words)

    def wait_for_words(self, words: str) -> None:
        """Waits until a field shows a text."""
        shows = "words => [...document.querySelectorAll('textarea')].some(e => e.offsetParent && e.value === words)"
        self.page.wait_for_function(shows, arg=words)

    def wait_for_value(self, control: Control, value: Any) -> None:
        """Waits until a control shows what was filled in."""
        match control:
            case Words() if value:
                self.wait_for_words(value)
            case Picture():
                self.panel.get_by_test_id("image").locator("img").first.wait_for()
            case Painted() if value:
                self.panel.locator("canvas").first.wait_for()
                self.page.wait_for_timeout(1000)  # what a canvas shows cannot be asked for

    def shoot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


@pytest.fixture
def visit(browser: Browser, studio: Studio, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """A window; a test may ask for options of it. Nothing in it may ask another host."""
    options: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}} | getattr(request, "param", {})
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE)
    visit = Visit(page, studio)

    def note(asked: Request) -> None:
        visit.asked.append(asked.url)

    page.on("request", note)
    visit.open()
    yield visit
    page.close()
    own = (f"{studio.address}/", "data:", f"blob:{studio.address}/")
    assert [url for url in visit.asked if not url.startswith(own)] == []
