"""What fills in the forms of the studio: prompts and postcards that the bundled model knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from versatile_diffusion.worlds.base import ExampleImage, KnownThing, Repertoire, WorldExample
from versatile_diffusion.worlds.postcards.data import ATTRIBUTES, Scene, render
from versatile_diffusion.worlds.postcards.data.captions import PLACE, STYLE_LAST


def scene(subject: str, color: str, place: str, **more: str) -> Scene:
    """Returns a scene; what is left out is plain."""
    plain = {"time": "day", "weather": "clear", "position": "middle", "style": "postcard"}
    return Scene(subject=subject, color=color, place=place, seed=3, **plain | more)


def image(shown: Scene, hidden: str | None = None) -> ExampleImage:
    """Returns the image of a scene, of which a part may be painted over."""
    return ExampleImage(partial(render, shown), hidden)


LIGHTHOUSE = scene("lighthouse", "red", "sea", time="sunset")
WINDMILL = scene("windmill", "yellow", "desert")
TENT = scene("tent", "blue", "mountains", time="night")
HOUSE = scene("house", "purple", "meadow", style="watercolor")
TREE = scene("tree", "green", "meadow", weather="snow", style="pixel art")

EMBEDDINGS = Path(__file__).with_name("example_embeddings.safetensors")
"""Embeddings of `LIGHTHOUSE` and `TENT` by the bundled model, as `vd embed` writes them."""


def _prompts(*texts: str) -> list[WorldExample]:
    return [WorldExample(text, {"prompt": text}) for text in texts]


EXAMPLES: Mapping[str, Sequence[WorldExample]] = {
    "text-to-image": _prompts(
        "a watercolor of a red lighthouse by the sea",
        "pixel art of a green tree in the snow",
        "an oil painting of a yellow windmill in the desert at night",
    ),
    "image-to-text": [
        WorldExample("Lighthouse", {"picture": image(LIGHTHOUSE)}),
        WorldExample("Windmill", {"picture": image(WINDMILL)}),
    ],
    "image-variation": [
        WorldExample("Tent, free", {"picture": image(TENT), "fidelity": 0, "focus": 0.5, "colors": False}),
        WorldExample(
            "House, close to the layout", {"picture": image(HOUSE), "fidelity": 0.4, "focus": 0.5, "colors": True}
        ),
    ],
    "text-variation": _prompts("a blue tent in the mountains, at night", "a white house by the sea in the rain"),
    "dual-context": [
        WorldExample("Windmill as pixel art", {"prompt": "pixel art", "picture": image(WINDMILL), "share": 0.7}),
        WorldExample("Tent in the snow", {"prompt": "a tent in the snow", "picture": image(TENT), "share": 0.5}),
    ],
    "multi-context": [
        WorldExample(
            "Place of one, style of another", {"picture1": image(LIGHTHOUSE, "left"), "picture2": image(HOUSE)}
        ),
        WorldExample("A picture and a text", {"picture1": image(TREE), "prompt": "a red tent at sunset"}),
    ],
    "edit": [
        WorldExample(
            "Make it an oil painting", {"picture": image(TENT), "prompt": "make this picture an oil painting"}
        ),
        WorldExample(
            "A windmill for the lighthouse",
            {"picture": image(LIGHTHOUSE), "remove": "lighthouse", "add": "windmill"},
        ),
    ],
    "reconstruct": [
        WorldExample("A lighthouse's", {"file": EMBEDDINGS, "scan": 0}),
        WorldExample("A tent's", {"file": EMBEDDINGS, "scan": 1}),
    ],
}
"""Examples by the studio's tasks."""


def repertoire() -> Repertoire:
    """Returns what the bundled model can be asked for: each subject, in each place and colour."""
    things = [
        KnownThing(f"a {color} {subject} {PLACE[place][0].replace('*', '')}", (subject, color, place))
        for subject in ATTRIBUTES["subject"]
        for place, color in zip(ATTRIBUTES["place"], ATTRIBUTES["color"], strict=False)
    ]
    return Repertoire(things, {style: f", {phrases[0].replace('*', '')}" for style, phrases in STYLE_LAST.items()})
