"""The page that shows the server's interface, in a browser."""

from playwright.sync_api import Browser

from tests.unit.serving.running import Gate, listening
from versatile_diffusion.engine.engine import Engine
from versatile_diffusion.serving.app import build_app


def test_it_shows_the_routes_and_asks_no_other_host(browser: Browser) -> None:
    with listening(build_app(Engine(Gate()))) as address:
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{address}/docs")
        page.get_by_text("/v1/generate", exact=True).first.wait_for()
        page.wait_for_load_state("networkidle")
        page.close()
    assert len(asked) >= 4 and all(url.startswith((f"{address}/", "data:")) for url in asked), asked
