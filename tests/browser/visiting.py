"""The studio in a process of its own, and in a window of a browser."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page

from versatile_diffusion.app.controls import Control, Embeddings, Painted, Picture, Words

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
PATIENCE = 120_000  # milliseconds; a busy machine is slow, and nothing here is a measurement


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
            case Words() if value and not control.group:
                self.wait_for_words(value)
            case Picture():
                self.panel.get_by_test_id("image").locator("img").first.wait_for()
            case Embeddings() if value:
                self.panel.get_by_text(Path(value.name).stem).first.wait_for()
            case Painted() if value:
                self.panel.locator("canvas").first.wait_for()
                self.page.wait_for_timeout(1000)  # what a canvas shows cannot be asked for

    def shoot(self, name: str) -> None:
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
