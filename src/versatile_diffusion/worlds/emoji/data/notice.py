"""Where the emoji are from, and under which licences: written beside the data, and told in the model card."""

from __future__ import annotations

from versatile_diffusion.worlds.emoji.data.hands import EMOJIBASE, HANDS, STRANGER, Hand

LICENSES = {
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "MIT": "https://opensource.org/license/mit",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
}
"""Where the text of each licence is."""


def notice() -> str:
    """Returns the attribution of all sets, in Markdown."""
    rows = "\n".join(_row(hand) for hand in HANDS)
    return f"""\
# Where these images are from

Drawn from sets of emoji by other artists, changed: moved and scaled, and most of them treated (as pixel art, line
drawings, silhouettes, on coloured grounds and so on). Each image's line in metadata.jsonl names its set ("hand") and
licence.

| hand | set | by | licence | package |
|---|---|---|---|---|
{rows}

Only to measure with, in the folder `stranger`; no model learns from it:

| hand | set | by | licence | package |
|---|---|---|---|---|
{_row(STRANGER)}

Names, keywords and groups: emojibase by Miles Johnson, [MIT]({LICENSES["MIT"]}), npm {EMOJIBASE.name} \
{EMOJIBASE.version}.
"""


def _row(hand: Hand) -> str:
    license_ = f"[{hand.license}]({LICENSES[hand.license]})"
    package = f"npm {hand.package.name} {hand.package.version}"
    return f"| {hand.name} | [{hand.title}]({hand.source}) | {hand.author} | {license_} | {package} |"
