"""Captions in plain English, as people write them, and what a text says of things, hands and treatments."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from versatile_diffusion.worlds.emoji.data.hands import HANDS, Hand
from versatile_diffusion.worlds.emoji.data.things import Thing
from versatile_diffusion.worlds.emoji.data.treatments import COLORS, TREATMENTS, Treatment

PARTS = ("thing", "hand", "treatment")
"""What a caption may mention."""

FIRST: Mapping[str, tuple[str, ...]] = {
    "pixel art": ("pixel art of", "pixel art of", "a pixel art picture of"),
    "line drawing": ("a line drawing of", "a line drawing of", "line art of"),
    "silhouette": ("a silhouette of", "the silhouette of"),
    "black and white": ("a black and white picture of", "a grayscale picture of"),
    "duotone": ("a duotone print of", "a duotone of"),
    "sticker": ("a sticker of", "a sticker of"),
    "neon": ("a neon sign of", "neon lights in the shape of"),
    "watercolor": ("a watercolor of", "a watercolor painting of"),
}
"""Treatments before the thing; the plainest comes first."""
LAST: Mapping[str, tuple[str, ...]] = {
    "background": ("on a {color} background", "on {color}", "in front of a {color} background"),
    "pixel art": ("as pixel art", "in pixel art"),
    "line drawing": ("as a line drawing", "as line art"),
    "silhouette": ("as a silhouette",),
    "black and white": ("in black and white", "in grayscale"),
    "duotone": ("in duotone", "as a duotone print"),
    "night": ("at night", "in the moonlight", "under a starry sky"),
    "sticker": ("as a sticker",),
    "neon": ("in neon", "as a neon sign"),
    "watercolor": ("in watercolor", "as a watercolor"),
}
"""Treatments after the thing; the plainest comes first."""
ALSO_READ: Mapping[str, str] = {
    "pixelated": "pixel art",
    "sketch": "line drawing",
    "outline drawing": "line drawing",
    "coloring page": "line drawing",
    "shadow": "silhouette",
    "monochrome": "black and white",
    "greyscale": "black and white",
    "night sky": "night",
    "watercolour": "watercolor",
}
"""What a text may also say; captions do not."""

SOMETHING, A_PICTURE = "something", ("a picture of", "a drawing of", "an icon of", "an emoji of")
_THING_SHARE, _HAND_SHARE, _TREATMENT_SHARE, _KEYWORD_SHARE = 0.92, 0.6, 0.75, 0.3


@dataclass(frozen=True)
class Shown:
    """What an image shows, as a caption of it needs to know."""

    thing: Thing
    hand: Hand
    treatment: Treatment
    color: str


def choose_mention(rng: np.random.Generator) -> tuple[str, ...]:
    """Returns what people would mention: the thing nearly always, its look often."""
    shares = (_THING_SHARE, _HAND_SHARE, _TREATMENT_SHARE)
    chosen = tuple(part for part, share in zip(PARTS, shares, strict=True) if rng.random() < share)
    return chosen or PARTS


def caption(shown: Shown, rng: np.random.Generator, mention: Collection[str] = PARTS, plainly: bool = False) -> str:
    """Returns lower-case English that names the parts in `mention`, and no others.

    Args:
        shown: what the image shows; its treatment is not named if it is plain.
        rng: chooses words and their order.
        mention: some of `PARTS`.
        plainly: whether to take the name and the plainest words, as texts do that are to be read back.
    """
    noun = _noun(shown.thing, rng, plainly) if "thing" in mention else SOMETHING
    before, after = "", ""
    if "treatment" in mention:
        before, after = _treated(shown, rng, plainly)
    if "hand" in mention:
        noun, behind = _styled(noun, shown.hand, rng, plainly, counted="thing" in mention)
        after = behind + after if rng.random() < 0.5 else after + behind
    elif "thing" in mention:
        noun = with_article(noun) if before or rng.random() < 0.6 else noun
        if not before and not plainly and rng.random() < 0.15:
            before = _pick(rng, A_PICTURE) + " "
            noun = with_article(noun.removeprefix("a ").removeprefix("an "))
    return f"{before}{noun}{after}"


def texts_of(shown: Shown, rng: np.random.Generator) -> list[str]:
    """Returns two texts that leave out the same parts, in any words, then two that leave out nothing, in plain ones."""
    some = choose_mention(rng)
    return [
        *(caption(shown, rng, some) for _ in range(2)),
        *(caption(shown, rng, plainly=True) for _ in range(2)),
    ]


def instruction(look: Hand | Treatment, color: str = "blue") -> str:
    """Returns what people say to have a picture drawn by another hand, or treated.

    Args:
        look: the hand or the treatment.
        color: of the background, if the treatment has one.

    Raises:
        ValueError: if there are no words for the treatment, which is so if it is plain.
    """
    if isinstance(look, Hand):
        return f"make it {look.style.lower()}"
    first, last = FIRST.get(look.name, ()), LAST.get(look.name, ())
    if not first and not last:
        raise ValueError(f"There are no words for the treatment {look.name}.")
    return f"make it {first[0].removesuffix(' of') if first else last[0].format(color=color)}"


def phrases(things: Sequence[Thing]) -> list[str]:
    """Returns what captions of these things are made of: together it has every word that a caption can have."""
    return [
        *(name.lower() for thing in things for name in (thing.name, *thing.keywords)),
        *(style.lower() for hand in HANDS for style in hand.styles),
        *(phrase.format(color="") for choices in (*FIRST.values(), *LAST.values()) for phrase in choices),
        *COLORS,
        *A_PICTURE,
        f"a an {SOMETHING}, in style",
    ]


def _noun(thing: Thing, rng: np.random.Generator, plainly: bool) -> str:
    if plainly or not thing.keywords or rng.random() > _KEYWORD_SHARE:
        return thing.name.lower()
    drawn: list[int] = rng.permutation(len(thing.keywords))[:2].tolist()
    words = [thing.keywords[i].lower() for i in drawn]
    return words[0] if rng.random() < 0.25 else f"{thing.name.lower()}, {', '.join(words)}"


def _styled(noun: str, hand: Hand, rng: np.random.Generator, plainly: bool, counted: bool) -> tuple[str, str]:
    """The noun, and what follows it, that together name a hand."""
    style = (hand.style if plainly else _pick(rng, hand.styles)).lower()
    where = rng.random()
    if where < 0.35:
        return (with_article(noun) if counted else noun), f", {style} style"
    if where < 0.6:
        return (with_article(noun) if counted else noun), f" in {style} style"
    if not counted:
        return f"{noun} {style}", ""
    return with_article(f"{style} {noun}" if where < 0.85 else f"{style} style {noun}"), ""


def _treated(shown: Shown, rng: np.random.Generator, plainly: bool) -> tuple[str, str]:
    """What stands before the noun, and after it, to name a treatment."""
    name = shown.treatment.name
    first, last = FIRST.get(name, ()), LAST.get(name, ())
    if first and (not last or rng.random() < 0.55):
        return f"{first[0] if plainly else _pick(rng, first)} ", ""
    if last:
        phrase = (last[0] if plainly else _pick(rng, last)).format(color=shown.color)
        return "", f" {phrase}" if rng.random() < 0.8 else f", {phrase}"
    return "", ""


def with_article(noun: str) -> str:
    """Returns "an owl" for "owl", and what is several, such as "grapes", as it is."""
    head = noun.split(",")[0]
    if head.endswith("s") and not head.endswith(("ss", "us", "bus")):
        return noun
    return f"{'an' if head[0] in 'aeiou' else 'a'} {noun}"


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


# ---- reading ----


@dataclass(frozen=True)
class Said:
    """What a text says; None where it says nothing of it.

    Attributes:
        thing: the id of the thing.
        hand: the name of the hand.
        treatment: the name of the treatment.
        color: of the background.
    """

    thing: str | None = None
    hand: str | None = None
    treatment: str | None = None
    color: str | None = None


class CaptionReader:
    """Reads what texts say of these things. It undoes `caption` where that is told to name things plainly."""

    def __init__(self, things: Sequence[Thing]) -> None:
        self._things = {_words(thing.name): thing.id for thing in reversed(things)}
        self._longest = max(map(len, self._things), default=0)

    def read(self, text: str) -> Said:
        """Returns what a text says. Of several things the longest name counts, and of equally long ones the first."""
        words = _words(text)
        thing, rest = self._thing(words)
        said = " ".join(rest)
        color = _COLOR.search(said)
        treatment = _longest(said, _TREATMENT_WORDS)
        if treatment is None and color:
            treatment = "background"
        hand = _longest(said, _STYLE_WORDS)
        return Said(thing, hand, treatment, color[1] if color and treatment == "background" else None)

    def _thing(self, words: tuple[str, ...]) -> tuple[str | None, tuple[str, ...]]:
        """The thing that is named, and all other words."""
        for length in range(min(self._longest, len(words)), 0, -1):
            for start in range(len(words) - length + 1):
                if (found := self._things.get(words[start : start + length])) is not None:
                    return found, (*words[:start], *words[start + length :])
        return None, words


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z0-9'!?]+", text.lower()))


def _longest(text: str, phrases: Mapping[str, str]) -> str | None:
    """What the longest of the phrases in a text means."""
    found = [phrase for phrase in phrases if re.search(rf"\b{re.escape(phrase)}\b", text)]
    return phrases[max(found, key=len)] if found else None


_COLOR = re.compile(rf"\b(?:on|front of)(?: a)? ({'|'.join(COLORS)})\b")
_TREATMENT_WORDS: Mapping[str, str] = {
    **{name: name for name in TREATMENTS if name not in ("plain", "background")},
    "line art": "line drawing",
    "grayscale": "black and white",
    "moonlight": "night",
    "starry sky": "night",
    **ALSO_READ,
}
_STYLE_WORDS: Mapping[str, str] = {style.lower(): hand.name for hand in HANDS for style in hand.styles}
