"""The studio where something breaks: a full disk, a computation or the studio itself killed in mid-job."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser

from tests.browser.conftest import studio_in, visited
from tests.browser.visiting import Studio, Visit
from versatile_diffusion.provenance.output_files import read_outputs
from versatile_diffusion.studio.history import RESULTS

pytestmark = pytest.mark.slow
ROOM = 2**20


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path_factory.mktemp("small")
    options = ["-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", folder]
    if subprocess.run(["mount", *options], capture_output=True).returncode:
        pytest.skip("Only root may mount a small file system.")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="module")
def fragile(small_disk: Path, browser: Browser) -> Iterator[Studio]:
    studio = studio_in(small_disk)
    studio.start()
    yield studio
    studio.stop()


@pytest.fixture
def window(browser: Browser, fragile: Studio) -> Iterator[Visit]:
    visit = visited(browser, fragile)
    yield visit
    visit.page.close()


def check_whole(studio: Studio, count: int) -> None:
    """Checks that there are so many results, that each can be read, and that no other file lies about."""
    recipes = studio.recipes()
    assert len(recipes) == count
    for recipe in recipes:
        file = Path(recipe["file"])
        assert read_outputs(file)[0][0].missing == []
        Image.open(file.with_suffix(".png")).load()
    assert len([path for path in (studio.history / RESULTS).iterdir() if path.is_file()]) == 2 * count


def test_a_full_disk_loses_no_result_and_leaves_no_part_of_one(window: Visit, fragile: Studio) -> None:
    window.write("a blue tent in the snow")
    window.take_few_steps()
    window.generate()
    check_whole(fragile, 1)
    filler = fragile.history.parent / "filler"
    room = os.statvfs(filler.parent)
    filler.write_bytes(b"x" * (room.f_bavail * room.f_frsize))
    window.write("a red tent in the snow")
    window.generate()
    told = window.page.get_by_text("The results could not be kept")
    told.wait_for()
    assert "full" in told.inner_text() or "No space left" in told.inner_text()
    shown = window.panel.locator(".vd-gallery img").first
    assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    window.shoot("full-disk")
    check_whole(fragile, 1)
    filler.unlink()
    window.generate()
    check_whole(fragile, 2)


def test_a_killed_computation_is_told_and_the_next_one_works(window: Visit, fragile: Studio) -> None:
    before = len(fragile.recipes())
    window.generate_for_long()
    os.kill(fragile.worker, signal.SIGKILL)
    assert "ended unexpectedly" in window.said("The computation")
    window.panel.get_by_label("number input for Steps").fill("2")
    window.panel.get_by_label("number input for Outputs").fill("1")
    window.generate()
    check_whole(fragile, before + 1)


def test_a_killed_studio_comes_back_with_its_history_whole(window: Visit, fragile: Studio) -> None:
    before = fragile.recipes()
    window.generate_for_long()
    computing = Path(f"/proc/{fragile.worker}")
    fragile.stop(signal.SIGKILL)
    left = fragile.history / RESULTS / "20260101-000000-edit-0123abcd.png"
    left.write_bytes(b"half")
    fragile.start()
    window.open()
    assert fragile.recipes() == before and not left.exists()
    check_whole(fragile, len(before))
    window.write("a tree")
    window.take_few_steps()
    window.generate()
    assert not computing.exists()
