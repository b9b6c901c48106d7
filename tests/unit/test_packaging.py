"""The package: the sdist builds the same wheel, all that it bundles is accounted for, and its papers agree."""

import io
import re
import runpy
import tarfile
import tomllib
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from hatchling import build

import versatile_diffusion

ROOT = Path(__file__).parents[2]
SECTIONS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTICE = (ROOT / "NOTICE.md").read_text()


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    with pytest.MonkeyPatch.context() as there:
        there.chdir(ROOT)
        return folder / build.build_sdist(str(folder))


def wheel_of(folder: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, bytes]:
    """The files of the wheel that is built from a folder."""
    monkeypatch.chdir(folder)
    place.mkdir()
    with zipfile.ZipFile(place / build.build_wheel(str(place))) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(sdist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(sdist) as packed:
        packed.extractall(tmp_path, filter="data")
    (unpacked,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    here, there = (
        wheel_of(folder, tmp_path / f"wheel-{number}", monkeypatch) for number, folder in enumerate((ROOT, unpacked))
    )
    assert here.keys() == there.keys() and all(here[name] == there[name] for name in here)
    (metadata,) = [content.decode() for name, content in here.items() if name.endswith("/METADATA")]
    assert {name.rsplit("/", 1)[1] for name in here if "/licenses/" in name} == {"LICENSE", "NOTICE.md"}
    for extra in SECTIONS["optional-dependencies"]:
        assert f"Provides-Extra: {extra}\n" in metadata
    bundled = sorted({name for name in here if ".dist-info/" not in name and not name.endswith((".py", "py.typed"))})
    named = re.findall(r"`([\w./-]+)`", NOTICE)
    unnamed = [name for name in bundled if not name.removeprefix("versatile_diffusion/").startswith(tuple(named))]
    assert bundled and unnamed == [], "NOTICE.md must say what these are made from, and under which licence"


@pytest.mark.slow
def test_the_sdist_holds_what_the_tests_and_the_site_need_and_nothing_made(sdist: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(sdist.read_bytes())) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    for name in ("tests/conftest.py", "docs/index.md", "website/mkdocs.yml", "examples/flows.ipynb", "Makefile"):
        assert name in names
    assert not [name for name in names if name.startswith((".venv", "build/", "dist/", "runs/", "demo/"))]


def test_the_citation_names_the_authors_of_the_paper_and_this_version() -> None:
    citation = read("CITATION.cff")
    assert citation["version"] == versatile_diffusion.__version__
    assert citation["license"] == SECTIONS["license"]
    paper = citation["preferred-citation"]
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    assert authors in (ROOT / "README.md").read_text() and paper["year"] == 2023
    for author in paper["authors"]:
        assert f"{author['given-names']} {author['family-names']}" in NOTICE


def test_github_calls_what_is_there() -> None:
    jobs = read(".github/workflows/ci.yml")["jobs"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    runs = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert {run.removeprefix("make ") for run in runs if run.startswith("make ")} == {"docs", "package"}
    assert {"docs", "package", "test"} <= set(targets) and ".ci/run" in runs
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    oldest = SECTIONS["requires-python"].removeprefix(">=")
    assert jobs["test"]["strategy"]["matrix"]["python"][0] == oldest
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        assert {"name", "description", "body"} <= read(f".github/ISSUE_TEMPLATE/{form.name}").keys()


def test_the_hooks_are_of_this_environment() -> None:
    for repository in read(".pre-commit-config.yaml")["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            for path in re.findall(r"tests/\S+\.py", hook["entry"]):
                assert (ROOT / path).is_file()


def test_every_extra_that_tests_need_is_part_of_dev() -> None:
    extras = SECTIONS["optional-dependencies"]
    (own,) = [re.findall(r"\[(.*)\]", one)[0] for one in extras["dev"] if one.startswith("versatile-diffusion[")]
    elsewhere = {"dev", "trackio", "wandb", "serve"}  # trackers are stood in for, and others bring serve
    assert set(own.split(",")) == extras.keys() - elsewhere


def test_every_extra_is_tried_alone() -> None:
    tried = runpy.run_path(str(ROOT / ".ci" / "extras"))["IMPORTS"]
    assert tried.keys() == SECTIONS["optional-dependencies"].keys() - {"dev"}
    for module in re.findall(r"versatile_diffusion[\w.]+", " ".join(tried.values())):
        assert find_spec(module) is not None
