"""The studio as people use it."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.browser.visiting import Studio, Visit
from versatile_diffusion.app.tasks import TASKS, Task
from versatile_diffusion.recipes.kept import read

PHONE = {"viewport": {"width": 390, "height": 844}}
pytestmark = pytest.mark.slow


def png(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def pixels(file: str) -> np.ndarray:
    return np.array(Image.open(Path(file).with_suffix(".png")))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.key)
def test_an_example_of_each_task_fills_its_tab_and_gives_a_result(visit: Visit, task: Task) -> None:
    visit.choose(task.title)
    example = task.examples[-1]
    visit.click(example.title)
    for control in task.controls:
        visit.wait_for_value(control, example.values.get(control.name))
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
    [(kept, _)] = read(Path(visit.studio.recipes()[-1]["file"]))
    assert kept.recipe.to == task.to and kept.missing == []
    visit.shoot(task.key)


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
    visit.generate()


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
    visit.page.wait_for_timeout(1500)
    visit.click("Generate")
    assert visit.panel.locator("[role=alert]").or_(visit.page.get_by_test_id("toast-body")).first.inner_text()


def test_cancel_stops_at_the_next_step(visit: Visit) -> None:
    visit.write("a red house")
    visit.panel.get_by_label("number input for Outputs").fill("8")
    visit.panel.get_by_role("button", name="Advanced options").click()
    visit.panel.get_by_label("number input for Steps").fill("100")
    before = len(visit.studio.recipes())
    visit.click("Generate")
    visit.said("Step ")
    visit.panel.locator(".vd-going-on img").wait_for()
    visit.shoot("progress")
    visit.click("Cancel")
    visit.said("Cancelled at step")
    assert len(visit.studio.recipes()) == before
    visit.panel.get_by_label("number input for Steps").fill("2")
    visit.panel.get_by_label("number input for Outputs").fill("1")
    visit.generate()


def test_a_mask_drawn_over_a_picture_reaches_the_model(visit: Visit) -> None:
    visit.choose("Multi-context")
    visit.click("A picture and a text")
    canvas = visit.panel.locator("canvas").first
    canvas.wait_for()
    visit.page.wait_for_timeout(1500)
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
    [(kept, _)] = read(Path(visit.studio.recipes()[-1]["file"]))
    painted = next(context for context in kept.recipe.contexts if context.modality == "image")
    assert painted.mask is not None
    mask = kept.inputs[painted.mask.sha256].float()
    assert 0.6 < mask.mean() / 255 < 0.999


def test_results_become_inputs_and_are_compared(visit: Visit) -> None:
    visit.write("a blue tent in the snow")
    visit.panel.get_by_label("number input for Outputs").fill("2")
    visit.generate()
    gallery = visit.panel.locator(".vd-gallery")
    for number in (1, 2):
        gallery.get_by_role("button", name=f"Thumbnail {number} of 2").first.click()
        visit.page.wait_for_timeout(500)
        visit.click("Compare")
        visit.page.get_by_text(f"{number} to compare").wait_for()
    visit.click("Image to text")
    visit.page.locator("[role=tab][aria-selected=true]:text-is('Image to text')").wait_for()
    visit.panel.get_by_test_id("image").locator("img").first.wait_for()
    visit.generate()
    words = visit.panel.locator(".vd-texts label").first.inner_text().strip()
    visit.click("Text variation")
    visit.page.locator("[role=tab][aria-selected=true]:text-is('Text variation')").wait_for()
    visit.wait_for_words(words)
    visit.choose("Compare")
    assert visit.panel.locator(".gallery-item img, .thumbnail-item img").count() >= 2
    visit.shoot("compare")


def test_the_keyboard_is_enough(visit: Visit) -> None:
    visit.panel.get_by_label("Text", exact=True).focus()
    visit.page.keyboard.type("a white windmill")
    visit.page.keyboard.press("Enter")
    visit.said("Done in")


def test_the_history_survives_a_restart_and_is_replayed_exactly(visit: Visit, studio: Studio) -> None:
    visit.write("a green house by the sea")
    visit.generate()
    studio.stop()
    studio.start()
    visit.open()
    visit.choose("History")
    visit.panel.locator(".vd-gallery img").first.wait_for()
    before = studio.recipes()[-1]
    visit.panel.get_by_role("button", name="Replay", exact=True).wait_for()
    visit.shoot("history")
    visit.click("Replay")
    visit.page.locator("[role=tab][aria-selected=true]:text-is('Text to image')").wait_for()
    visit.said("Done in")
    after = studio.recipes()[-1]
    assert after["file"] != before["file"] and after["request"] == before["request"]
    assert np.array_equal(pixels(after["file"]), pixels(before["file"]))
    visit.choose("History")
    visit.panel.get_by_role("button", name="Delete", exact=True).wait_for()
    visit.page.wait_for_timeout(1000)
    visit.click("Delete")
    visit.page.wait_for_timeout(1500)
    assert not Path(after["file"]).exists()
    visit.click("Delete all …")
    visit.click("Delete all")
    visit.panel.get_by_text("Nothing was made yet").wait_for()
    assert studio.recipes() == []


UNLABELLED = """() => [...document.querySelectorAll('button, input, textarea, select, a[href], img')]
  .filter(element => element.offsetParent !== null && element.type !== 'file')
  .filter(element => !(element.getAttribute('aria-label') || element.getAttribute('title') || element.alt
    || element.getAttribute('aria-labelledby') || element.innerText?.trim()
    || [...(element.labels ?? [])].some(label => label.innerText.trim())))
  .map(element => element.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("visit", [PHONE, PHONE | {"color_scheme": "dark"}, {"color_scheme": "dark"}], indirect=True)
def test_every_tab_fits_and_is_labelled(visit: Visit) -> None:
    size, scheme = visit.page.viewport_size, visit.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert size is not None
    for name in [*(task.title for task in TASKS), "Compare", "History"]:
        visit.choose(name)
        visit.page.wait_for_timeout(300)
        widths = visit.page.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth]")
        assert max(widths) <= size["width"], name
        assert visit.page.evaluate(UNLABELLED) == [], name
        if name in ("Image variation", "Multi-context", "History"):
            visit.shoot(f"{name.lower().replace(' ', '-')}-{size['width']}-{'dark' if scheme else 'light'}")
