"""The site of the documentation: built strictly, so that no link leads nowhere, and with nothing from elsewhere."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from PIL import Image
from typer.main import get_command

from versatile_diffusion.cli.app import app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""Attributes whose addresses a browser fetches by itself."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as quick:
        quick.setenv("GALLERY_STEPS", "1")
        quick.setenv("GALLERY_OUTPUTS", "1")
        build(load_config(str(ROOT / "website" / "mkdocs.yml"), site_dir=str(folder)))
    yield folder


class Fetched(HTMLParser):
    def __init__(self, page: Path) -> None:
        super().__init__()
        self.places: list[str] = []
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.places += [value for name, value in attrs if name == FETCHED.get(tag) and value]


@pytest.mark.slow
def test_it_is_whole_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.glob("*.html"))
    assert {page.stem for page in DOCS.glob("*.md")} | {"gallery", "contributing", "security"} <= {
        page.stem for page in pages
    }
    for page in pages:
        for place in Fetched(page).places:
            assert not re.match(r"(https?:)?//", place), f"{page.name} fetches {place}"
            path = page.parent / re.sub(r"[?#].*", "", place)
            assert place.startswith(("data:", "/")) or path.exists(), f"{page.name} has no {place}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text()), style


@pytest.mark.slow
def test_the_bundled_model_draws_the_gallery(site: Path) -> None:
    drawn = list((site / "gallery").glob("postcards-text-to-image-*.png"))
    assert len(drawn) == 3 and all(Image.open(picture).size == (64, 64) for picture in drawn)
    page = (site / "gallery.html").read_text()
    assert "Image to text" in page and "an oil painting of a yellow windmill in the desert at night" in page


@pytest.mark.slow
def test_the_reference_is_of_the_docstrings(site: Path) -> None:
    page = (site / "api.html").read_text()
    assert 'id="versatile_diffusion.pipeline.pipeline.FlowPipeline.generate"' in page
    assert "How far guided predictions are brought back" in page, "fields say what they are for"
    walk = re.sub(r"<[^>]+>", "", (site / "figure.html").read_text())
    assert "for step in self.plan.steps:" in walk, "the figure stands beside the code"


def test_the_first_page_names_commands_that_are_there() -> None:
    commands = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    named = re.findall(r"^vd ([\w-]+)", (DOCS / "index.md").read_text(), flags=re.MULTILINE)
    assert len(named) > 8 and set(named) <= commands.keys()
