"""The page of votes in a real browser: by keyboard, by buttons, on a phone."""

import json
from collections.abc import Iterator

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.visiting import shoot
from tests.unit.serving.running import listening
from versatile_diffusion.provenance import png
from versatile_diffusion.voting.page import build
from versatile_diffusion.voting.study import Pair, Study

pytestmark = pytest.mark.slow
COLORS = {"a": (200, 40, 40), "b": (40, 60, 200)}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """Four pairs, red from A and blue from B, the last with a picture as its prompt."""
    opened = Study(tmp_path_factory.mktemp("votes"), must_exist=False)
    (opened.folder / "pictures").mkdir()
    pairs = [
        Pair(line, 0, f"a tent, number {line}", "pictures/given.png" if line == 4 else None, *names)
        for line in range(1, 5)
        for names in [[f"pictures/{line}-{side}.png" for side in COLORS]]
    ]
    opened.plan(("slow", "fast"), pairs)
    for pair in pairs:
        for side, color in COLORS.items():
            (opened.folder / getattr(pair, side)).write_bytes(png(Image.new("RGB", (64, 64), color), {"model": side}))
    (opened.folder / "pictures/given.png").write_bytes(png(Image.new("RGB", (64, 64), "green")))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(study: Study) -> Iterator[str]:
    with listening(build(study)) as found:
        yield found


def opened(browser: Browser, address: str, voter: str, **options: object) -> Page:
    page = browser.new_context(**options).new_page()  # pyright: ignore[reportArgumentType]
    page.goto(f"{address}/?voter={voter}")
    expect(page.locator("#count")).to_have_text("0 of 4")
    return page


def red(page: Page) -> str:
    """The side that shows the red picture."""
    code = """() => {
        const ink = document.createElement("canvas").getContext("2d");
        ink.drawImage(document.getElementById("left"), 0, 0);
        return ink.getImageData(1, 1, 1, 1).data[0];
    }"""
    return "left" if page.evaluate(code) > 100 else "right"


def settled(page: Page, done: int) -> None:
    expect(page.locator("#count")).to_have_text(f"{done} of 4")
    if done < 4:
        expect(page.locator("[data-choice=left]")).to_have_attribute("aria-disabled", "false")


def test_the_keyboard_votes_for_what_is_seen(browser: Browser, address: str, study: Study) -> None:
    page = opened(browser, address, "keys")
    settled(page, 0)
    page.keyboard.press({"left": "ArrowLeft", "right": "ArrowRight"}[red(page)])
    settled(page, 1)
    page.keyboard.press({"left": "ArrowRight", "right": "ArrowLeft"}[red(page)])
    settled(page, 2)
    page.keyboard.press("Space")
    settled(page, 3)
    page.keyboard.press("ArrowDown")
    settled(page, 4)
    expect(page.locator("#thanks")).to_be_visible()
    assert [vote["choice"] for vote in study.votes("keys")] == ["a", "b", "same", "same"]
    page.keyboard.press("Backspace")
    settled(page, 3)
    page.reload()
    settled(page, 3)
    assert len(study.votes("keys")) == 3


def test_buttons_vote_on_a_phone_without_scrolling_sideways(browser: Browser, address: str, study: Study) -> None:
    page = opened(browser, address, "thumb", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    settled(page, 0)
    for choice in ("left", "same", "right"):
        box = page.locator(f"[data-choice={choice}]").bounding_box()
        assert box is not None and box["height"] >= 44 and box["y"] + box["height"] <= 844
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Left").tap()
    settled(page, 1)
    page.get_by_role("button", name="Take back").tap()
    settled(page, 0)
    assert study.votes("thumb") == []


def test_pressing_fast_votes_once_on_each_pair(browser: Browser, address: str, study: Study) -> None:
    page = opened(browser, address, "haste")
    for _ in range(12):
        page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(500)
    votes = study.votes("haste")
    assert 1 <= len(votes) <= 4 and len({vote["pair"] for vote in votes}) == len(votes)


def test_nothing_leaves_the_machine_and_nothing_tells(browser: Browser, address: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.goto(f"{address}/?voter=watcher")
    settled(page, 0)
    assert all(url.startswith((address, "data:")) for url in asked) and problems == []
    told = page.content() + json.dumps(asked)
    assert not any(word in told for word in ("slow", "fast", "-a.png", "-b.png", "model"))


def test_buttons_and_pictures_have_names(browser: Browser, address: str) -> None:
    page = opened(browser, address, "reader")
    settled(page, 0)
    for name in ("Left picture", "Right picture"):
        expect(page.get_by_role("img", name=name)).to_be_visible()
    expect(page.get_by_role("progressbar", name="Pairs that you have voted on")).to_be_visible()
    for name in ("Left", "Same", "Right", "Take back"):
        expect(page.get_by_role("button", name=name)).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.choice") == "left"
    expect(page.get_by_role("status")).to_contain_text("Pair 1 of 4")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_screenshots(browser: Browser, address: str, scheme: str, width: int, height: int) -> None:
    view = {"width": width, "height": height}
    page = opened(browser, address, f"shot-{scheme}-{width}", viewport=view, color_scheme=scheme)
    settled(page, 0)
    ink, ground = (page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert ink != ground
    shoot(page, f"vote-{scheme}-{width}")
