"""How long after a keystroke the studio shows the picture of what was written (pip install playwright, and Chromium).

    vd app --port 7860 &
    python benchmarks/live_preview.py --rounds 20

It writes prompts word by word into the tab of text to image, as people pause between words, and tells the seconds from
each last keystroke until the picture of it is on the page.
"""

from __future__ import annotations

import argparse
import shutil
import statistics

from playwright.sync_api import sync_playwright

PROMPTS = ("a red tent in the snow", "a blue lighthouse by the sea", "a yellow windmill in the desert at night")
MEASURED = """([field, words]) => new Promise((done, failed) => {
  const shown = () => [...document.querySelectorAll(".vd-live img")].some(each => each.alt === words);
  const begun = performance.now();
  const seen = new MutationObserver(() => { if (shown()) { seen.disconnect(); done(performance.now() - begun); } });
  seen.observe(document.body, {subtree: true, childList: true, attributes: true});
  field.value = words;
  field.dispatchEvent(new Event("input", {bubbles: true}));
  setTimeout(() => failed(new Error(`no picture of ${words}`)), 30000);
})"""


def main() -> None:
    """Prints the median and the extremes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="http://127.0.0.1:7860")
    parser.add_argument("--rounds", type=int, default=20, help="prompts; each has some words")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(arguments.address)
        page.get_by_role("button", name="Generate").wait_for()
        panel = page.get_by_role("tabpanel").locator("visible=true").first
        panel.get_by_label("Draw while I type").check()
        field = panel.get_by_label("Text", exact=True)
        found: list[float] = []
        for number in range(arguments.rounds + 1):
            words = PROMPTS[number % len(PROMPTS)].split()
            for count in range(2, len(words) + 1):
                seconds = field.evaluate(f"(field, words) => ({MEASURED})([field, words])", " ".join(words[:count]))
                found += [seconds / 1000] if number else []  # the first prompt warms up
        browser.close()
    print(f"{len(found)} pictures: median {statistics.median(found):.2f} s, {min(found):.2f} to {max(found):.2f} s")


if __name__ == "__main__":
    main()
