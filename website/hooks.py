"""What the site has beside the pages of docs/: the gallery, and the files of the repository that pages link to."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import gallery
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PROJECT = ("CHANGELOG", "CONTRIBUTING", "NOTICE", "RELEASING", "SECURITY")
"""Files of the repository that are pages of the site."""
_LINK = re.compile(r"(\[[^\]]*\]\()(\.\./[^)#\s]+)")
_OWN_LINK = re.compile(r"(\[[^\]]*\]\()(?!https?:|#)")
_LANGUAGES = {".py": "python", ".toml": "toml", ".md": "markdown"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds pages that are no files of docs/."""
    written = [file.content_string for file in files.documentation_pages()]
    for name in PROJECT:
        written.append(_OWN_LINK.sub(r"\1../", (ROOT / f"{name}.md").read_text()))  # as if it lay in docs/
        files.append(File.generated(config, f"{name.lower()}.md", content=written[-1]))
    for link in sorted({link for text in written for _, link in _LINK.findall(text)}):
        path = ROOT / link.removeprefix("../")
        if (page := _page_of(path)).startswith("files/"):
            files.append(File.generated(config, page, content=_shown(path)))
    drawn = gallery.draw(**{name: int(value) for name, value in config.extra["gallery"].items()})
    for name, content in drawn.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links that lead out of docs/ to the pages of these files."""

    def inside(match: re.Match[str]) -> str:
        target = _page_of(ROOT / match[2].removeprefix("../"))
        return match[1] + os.path.relpath(target, Path(page.file.src_uri).parent)

    return _LINK.sub(inside, markdown)


def _page_of(path: Path) -> str:
    """The page that a file of the repository is, or that shows it."""
    name = path.relative_to(ROOT).as_posix()
    if name.removesuffix(".md") in PROJECT:
        return name.lower()
    return name.removeprefix("docs/") if name.startswith("docs/") else f"files/{name}.md"


def _shown(path: Path) -> str:
    """A file of the repository as a page, which is found by links and not by the menu."""
    name = path.relative_to(ROOT).as_posix()
    head = f"---\nsearch: {{exclude: true}}\n---\n\n# {name}\n\n"
    if path.is_dir():
        return head + "\n".join(f"- `{one.name}`" for one in sorted(path.glob("*.py")))
    if path.suffix == ".ipynb":
        return head + "\n\n".join(map(_cell, json.loads(path.read_text())["cells"]))
    return f"{head}````{_LANGUAGES.get(path.suffix, '')}\n{path.read_text()}````\n"


def _cell(cell: dict[str, Any]) -> str:
    """A cell of a notebook. Its headings stand below the name of the file."""
    text = "".join(cell["source"])
    return f"```python\n{text}\n```" if cell["cell_type"] == "code" else re.sub(r"^#", "##", text, flags=re.MULTILINE)
