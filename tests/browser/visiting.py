"""The studio in a process of its own, and in a window of a browser."""

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Error, Page, expect

from tests.processes import Running, start_vd
from versatile_diffusion.studio.controls import Control, FileControl, ImageControl, MaskedImageControl, TextControl

SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
PATIENCE = 120_000  # milliseconds; a busy machine is slow, and nothing here is a measurement


@dataclass
class Studio:
    """`vd app` in a process of its own."""

    history: Path
    port: int
    running: Running | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.running = start_vd("app", "--port", self.port, "--history", self.history)
        while True:
            assert self.process.is_running, self.process.stderr
            try:
                if httpx.get(f"{self.address}/healthz").is_success:
                    return
            except httpx.TransportError:
                time.sleep(0.1)

    @property
    def process(self) -> Running:
        assert self.running is not None
        return self.running

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        self.process.send(how)
        try:
            self.process.process.join(PATIENCE / 1000)
        finally:
            self.process.kill()

    @property
    def worker(self) -> int:
        """Process that computes."""
        return self.process.started[-1]

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
        try:
            self.page.goto(self.studio.address)
        except Error as error:  # a page whose studio came back loads itself anew, maybe at this moment
            if "ERR_ABORTED" not in error.message:
                raise
            self.page.goto(self.studio.address)
        self.page.get_by_role("button", name="Generate").wait_for()

    def choose(self, tab: str) -> None:
        self.page.evaluate("document.querySelectorAll('.toast-close').forEach(each => each.click())")  # over the tabs
        self.page.get_by_role("tab", name=tab, exact=True).click()
        self.page.locator(f"[role=tab][aria-selected=true]:text-is('{tab}')").wait_for()

    def click(self, button: str) -> None:
        self.panel.get_by_role("button", name=button, exact=True).click()

    def said(self, start: str) -> str:
        """What the status says, once it says this, and not from before `generate`."""
        said = f":has-text('{start}'):not([data-old])"
        found = self.panel.locator(f"[role=status]{said}, [role=alert]{said}").first
        found.wait_for(timeout=PATIENCE)
        return found.inner_text()

    def generate(self) -> str:
        self.page.evaluate("document.querySelectorAll('[role=status]').forEach(each => { each.dataset.old = 1; })")
        self.click("Generate")
        return self.said("Done in")

    def take_few_steps(self, steps: int = 2) -> None:
        """Asks for few steps, where it does not matter how good the result is."""
        options = self.panel.get_by_role("button", name="Advanced options")
        options.click()
        self.panel.get_by_label("number input for Steps").fill(str(steps))
        options.click()

    def take_the_long_way(self, steps: int) -> None:
        """Asks for more steps than what was distilled takes; the advanced options are open."""
        self.panel.get_by_label("Quality").check()
        field = self.panel.get_by_label("number input for Steps")
        expect(field).to_have_value("50", timeout=PATIENCE)
        field.fill(str(steps))

    def generate_for_long(self, steps: int = 100) -> None:
        """Begins what takes many steps, and waits for the first of them."""
        self.ask_for_long("a red house", steps)
        self.said("Step ")

    def ask_for_long(self, words: str, steps: int) -> None:
        """Asks for what takes many steps."""
        self.write(words)
        self.panel.get_by_label("number input for Outputs").fill("8")
        self.panel.get_by_role("button", name="Advanced options").click()
        self.take_the_long_way(steps)
        self.click("Generate")

    def write(self, words: str, label: str = "Text") -> None:
        self.panel.get_by_label(label, exact=True).fill(words)

    def wait_for_words(self, words: str) -> None:
        """Waits until a field shows a text."""
        shows = "words => [...document.querySelectorAll('textarea')].some(e => e.offsetParent && e.value === words)"
        self.page.wait_for_function(shows, arg=words)

    def wait_for_value(self, control: Control, value: Any) -> None:
        """Waits until a control shows what was filled in."""
        match control:
            case TextControl() if value:
                self.wait_for_words(value)
            case ImageControl():
                self.panel.get_by_test_id("image").locator("img").first.wait_for()
            case FileControl() if value:
                self.panel.get_by_text(Path(value.name).stem).first.wait_for()
            case MaskedImageControl() if value:
                self.panel.locator("canvas").first.wait_for()
                self.page.wait_for_timeout(1000)  # what a canvas shows cannot be asked for

    def shoot(self, name: str) -> None:
        shoot(self.page, name)


def shoot(page: Page, name: str) -> None:
    """Leaves what a page shows in build/screenshots for people to look at, if VD_SCREENSHOTS asks for that."""
    if os.environ.get("VD_SCREENSHOTS"):
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
