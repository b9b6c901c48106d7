"""The studio as people use it."""

import json
import re
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, expect
from safetensors.torch import save_file

from tests.browser.conftest import visited
from tests.browser.visiting import PATIENCE, Studio, Visit
from tests.processes import start_vd
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.provenance.output_files import read_outputs
from versatile_diffusion.provenance.replay import replayed
from versatile_diffusion.studio.examples import examples_of
from versatile_diffusion.studio.tasks import TASKS, StudioTask

PHONE = {"viewport": {"width": 390, "height": 844}}
pytestmark = pytest.mark.slow


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def pixels(file: str) -> np.ndarray:
    return np.array(Image.open(Path(file).with_suffix(".png")))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.key)
def test_an_example_of_each_task_gives_a_result_that_can_be_replayed(
    tabs: Visit, painter: VersatileDiffusionPipeline, task: StudioTask
) -> None:
    visit = tabs
    visit.choose(task.title)
    example = examples_of(task.key)[-1]
    visit.click(example.title)
    for control in task.controls:
        visit.wait_for_value(control, example.values.get(control.name))
    visit.take_few_steps()
    before = len(visit.studio.recipes())
    visit.generate()
    if task.to == "image":
        shown = visit.panel.locator(".vd-gallery img").first
        shown.wait_for()
        assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
        assert shown.get_attribute("alt")
    else:
        assert visit.panel.locator(".vd-texts label").first.inner_text().strip()
    assert len(visit.studio.recipes()) == before + 1
    check_replay(painter, Path(visit.studio.recipes()[-1]["file"]))
    assert faults(visit) == []
    visit.shoot(task.key)


def check_replay(painter: VersatileDiffusionPipeline, file: Path) -> None:
    """Checks that a recipe makes exactly what stands beside it."""
    [(kept, text)] = read_outputs(file)
    again = replayed(painter, kept)
    assert again == text if isinstance(again, str) else np.array_equal(np.array(again), pixels(str(file)))


def test_embeddings_are_reconstructed(visit: Visit, tmp_path: Path) -> None:
    save_file({"image": torch.randn(2, 65, 96)}, tmp_path / "predicted.safetensors")
    np.save(tmp_path / "wrong.npy", np.zeros(3))
    visit.choose("Reconstruct")
    upload = visit.panel.locator("input[type=file]")
    upload.set_input_files(tmp_path / "predicted.safetensors")
    visit.panel.get_by_text("predicted", exact=False).first.wait_for()
    visit.panel.get_by_label("Scan", exact=True).fill("7")
    visit.click("Generate")
    assert "choose one from 0 to 1" in visit.said("predicted.safetensors holds 2 scans")
    visit.panel.get_by_label("Scan", exact=True).fill("1")
    visit.take_few_steps()
    visit.generate()


def test_what_it_knows_is_searched_and_styled(visit: Visit) -> None:
    visit.panel.get_by_role("button", name="What it knows").click()
    visit.panel.get_by_label("Search", exact=True).fill("red ten")
    expect(visit.panel.get_by_text("a blue tent in the mountains")).to_have_count(0, timeout=PATIENCE)
    visit.panel.get_by_text("a red tent in a meadow").click()
    prompt = visit.panel.get_by_label("Text", exact=True)
    expect(prompt).to_have_value("a red tent in a meadow", timeout=PATIENCE)
    for style in ("watercolor", "pixel art"):
        visit.panel.get_by_role("button", name=style, exact=True).click()
        expect(prompt).to_have_value(re.compile(style), timeout=PATIENCE)
    expect(prompt).to_have_value("a red tent in a meadow, in pixel art")
    visit.shoot("repertoire")


def test_what_is_wrong_is_explained(visit: Visit) -> None:
    visit.click("Generate")
    assert "write one, or click an example" in visit.said("There is no text yet")
    visit.write("x" * 2001)
    visit.click("Generate")
    visit.said("A request may ask for 2000 characters at most")
    visit.shoot("error")
    visit.choose("Image to text")
    visit.click("Generate")
    visit.said("There is no picture yet")
    broken = png(Image.new("RGB", (64, 64)))[:60]
    files = [{"name": "broken.png", "mimeType": "image/png", "buffer": broken}]
    visit.panel.locator("input[type=file]").first.set_input_files(files)  # pyright: ignore[reportArgumentType]
    visit.panel.get_by_role("button", name="Remove Image").wait_for()
    visit.click("Generate")
    visit.said("A picture must be whole, and one of PNG")


def test_those_who_wait_see_their_place_and_may_leave(visit: Visit, browser: Browser) -> None:
    second = visited(browser, visit.studio)
    before = visit.studio.recipes()
    visit.generate_for_long(steps=120)
    second.ask_for_long("a blue house", steps=120)  # what is short goes in between, and waits for nothing
    second.said("Waiting: it is next")
    second.shoot("waiting")
    second.click("Cancel")
    second.said("Cancelled")
    second.page.close()
    visit.said("Done in")
    made = [recipe for recipe in visit.studio.recipes() if recipe not in before]
    assert len(made) == 8 and all("a red house" in str(recipe) for recipe in made)


def test_the_dice_write_down_a_seed_that_is_kept_and_downloads_are_replayed(visit: Visit, tmp_path: Path) -> None:
    visit.write("a yellow tent")
    visit.take_few_steps()
    visit.click("Roll the dice")
    seed = visit.panel.get_by_label("Seed (−1: random)")
    expect(seed).not_to_have_value("-1")
    visit.generate()
    with visit.page.expect_download() as download:
        visit.click("Download")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.suffix == ".png" and read_outputs(file)[0][0].record.seed == int(seed.input_value())
    replay = start_vd("replay", file, "--json")
    assert replay.returncode == 0, replay.stderr
    assert [found["same"] for found in json.loads(replay.stdout)] == [True]


def test_cancel_stops_at_the_next_step(visit: Visit) -> None:
    before = len(visit.studio.recipes())
    visit.generate_for_long()
    visit.panel.locator(".vd-going-on img").wait_for()
    visit.shoot("progress")
    visit.click("Cancel")
    visit.said("Cancelled at step")
    assert len(visit.studio.recipes()) == before
    visit.panel.get_by_label("number input for Steps").fill("2")
    visit.panel.get_by_label("number input for Outputs").fill("1")
    visit.generate()


def test_a_mask_drawn_over_a_picture_reaches_the_model(visit: Visit, painter: VersatileDiffusionPipeline) -> None:
    visit.choose("Multi-context")
    visit.click("A picture and a text")
    canvas = visit.panel.locator("canvas").first
    canvas.wait_for()
    visit.page.wait_for_timeout(1500)
    visit.take_few_steps()
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    visit.page.mouse.move(x - 60, y)
    visit.page.mouse.down()
    for step in range(12):
        visit.page.wait_for_timeout(50)  # the editor follows a hand, not a machine
        visit.page.mouse.move(x - 60 + 10 * step, y + step)
    visit.page.mouse.up()
    visit.page.wait_for_timeout(500)
    visit.shoot("mask")
    visit.generate()
    file = Path(visit.studio.recipes()[-1]["file"])
    [(kept, _)] = read_outputs(file)
    painted = next(context for context in kept.record.contexts if context.modality == "image")
    assert painted.mask is not None
    mask = kept.inputs[painted.mask.sha256].float()
    assert 0.6 < mask.mean() / 255 < 0.999
    check_replay(painter, file)


def test_results_become_inputs_and_are_compared(visit: Visit) -> None:
    visit.write("a blue tent in the snow")
    visit.panel.get_by_label("number input for Outputs").fill("2")
    visit.take_few_steps()
    visit.generate()
    gallery = visit.panel.locator(".vd-gallery")
    seeds = [recipe["request"]["seed"] for recipe in visit.studio.recipes()[-2:]]
    for number in (1, 2):
        gallery.get_by_role("button", name=f"Thumbnail {number} of 2").first.click()
        visit.panel.get_by_text(f"seed {seeds[number - 1]} ·").and_(visit.page.locator(".vd-said")).wait_for()
        visit.click("Compare")
        visit.page.get_by_text(f"{number} to compare").wait_for()
    visit.click("Image to text")
    visit.page.locator("[role=tab][aria-selected=true]:text-is('Image to text')").wait_for()
    visit.panel.get_by_test_id("image").locator("img").first.wait_for()
    visit.take_few_steps()
    visit.generate()
    words = visit.panel.locator(".vd-texts label").first.inner_text().strip()
    visit.click("Text variation")
    visit.page.locator("[role=tab][aria-selected=true]:text-is('Text variation')").wait_for()
    visit.wait_for_words(words)
    visit.choose("Compare")
    assert visit.panel.locator(".gallery-item img, .thumbnail-item img").count() >= 2
    visit.shoot("compare")


def test_the_keyboard_is_enough(visit: Visit) -> None:
    press = visit.page.keyboard.press
    focused = visit.page.locator(":focus")
    press("Tab")
    for key, title in (("ArrowLeft", "History"), ("Home", "Text to image"), ("ArrowRight", "Image to text")):
        press(key)
        expect(visit.page.get_by_role("tab", name=title, exact=True)).to_be_focused()
        expect(visit.page.get_by_role("tab", name=title, exact=True)).to_have_attribute("aria-selected", "true")
        assert focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid"
    press("Home")
    visit.panel.get_by_label("Text", exact=True).focus()
    visit.page.keyboard.type("a white windmill")
    press("Enter")
    visit.said("Done in")
    visit.panel.get_by_role("button", name="Advanced options").press("Enter")
    visit.take_the_long_way(100)
    visit.panel.get_by_role("button", name="Generate").press("Enter")
    visit.panel.get_by_role("button", name="Cancel").wait_for()
    press("Tab")
    expect(focused).to_have_text("Cancel")
    press("Enter")
    visit.said("Cancelled")


def test_the_history_survives_a_restart_and_is_replayed_exactly(visit: Visit, studio: Studio) -> None:
    visit.write("a green house by the sea")
    visit.take_few_steps()
    visit.generate()
    studio.stop()
    assert "Traceback" not in studio.process.stderr
    studio.start()
    visit.open()
    visit.choose("History")
    visit.panel.locator(".vd-gallery img").first.wait_for()
    before = studio.recipes()[-1]
    visit.panel.get_by_role("button", name="Replay", exact=True).wait_for()
    loaded = "() => [...document.querySelectorAll('.vd-gallery img')].every(e => e.complete && e.naturalWidth)"
    visit.page.wait_for_function(loaded)
    visit.shoot("history")
    visit.click("Replay")
    visit.page.locator("[role=tab][aria-selected=true]:text-is('Text to image')").wait_for()
    visit.said("Done in")
    after = studio.recipes()[-1]
    assert after["file"] != before["file"] and after["request"] == before["request"]
    assert np.array_equal(pixels(after["file"]), pixels(before["file"]))
    count = len(studio.recipes())
    visit.choose("History")
    visit.said(f"{count} results,")
    visit.click("Delete")
    visit.said(f"{count - 1} result")
    assert not Path(after["file"]).exists()
    visit.click("Delete all …")
    visit.click("Delete all")
    visit.panel.get_by_text("Nothing was made yet").wait_for()
    assert studio.recipes() == []


RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SETTLED = """() => Promise.allSettled(document.getAnimations()
  .filter(each => each.effect.getComputedTiming().endTime !== Infinity).map(each => each.finished))"""
"""Colours that are on their way have no contrast yet."""


def faults(visit: Visit, rules: Sequence[str] = RULES) -> list[str]:
    """What axe finds in our part of the page; gradio's messages have buttons within buttons."""
    visit.page.evaluate(SETTLED)
    if not visit.page.evaluate("'axe' in window"):
        visit.page.evaluate(Axe().axe_script)
    how = {"runOnly": list(rules), "resultTypes": ["violations"]}
    found = visit.page.evaluate("([where, how]) => axe.run(where, how)", [{"exclude": [".toast-wrap"]}, how])
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found["violations"]]


@pytest.mark.parametrize("visit", [PHONE, PHONE | {"color_scheme": "dark"}, {"color_scheme": "dark"}], indirect=True)
def test_every_tab_fits_and_can_be_read_by_all(visit: Visit) -> None:
    size, scheme = visit.page.viewport_size, visit.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert size is not None
    rules = ["color-contrast"] if scheme else RULES  # all that colours change
    for name in [*(task.title for task in TASKS), "Compare", "History"]:
        visit.choose(name)
        widths = visit.page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
        assert max(widths) <= size["width"], name
        assert faults(visit, rules) == [], name
        if name in ("Image variation", "Multi-context", "History"):
            visit.shoot(f"{name.lower().replace(' ', '-')}-{size['width']}-{'dark' if scheme else 'light'}")


def test_a_picture_follows_what_is_written(visit: Visit) -> None:
    before = visit.studio.recipes()
    switch = visit.panel.get_by_label("Draw while I type")
    switch.check()
    visit.write("a red tent")
    drawn = visit.panel.get_by_alt_text("a red tent", exact=True)
    drawn.wait_for()
    first = drawn.get_attribute("src")
    visit.panel.get_by_label("Text", exact=True).press_sequentially(" in the snow", delay=20)
    second = visit.panel.get_by_alt_text("a red tent in the snow", exact=True)
    second.wait_for()
    assert second.get_attribute("src") != first
    assert faults(visit) == []
    visit.shoot("live")
    visit.write("")
    expect(visit.panel.locator(".vd-live img")).to_have_count(0, timeout=PATIENCE)
    switch.uncheck()
    visit.write("a blue house")
    visit.take_few_steps()
    visit.generate()
    expect(visit.panel.locator(".vd-live img")).to_have_count(0)
    assert len(visit.studio.recipes()) == len(before) + 1, "what is drawn while one types is not kept"
