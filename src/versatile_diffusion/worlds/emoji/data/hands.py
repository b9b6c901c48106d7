"""Hands: the sets of emoji, each drawn by other artists, with the words that people have for their look."""

from __future__ import annotations

from dataclasses import dataclass

from versatile_diffusion.worlds.emoji.data.packages import Package


@dataclass(frozen=True)
class Hand:
    """A set of emoji.

    Attributes:
        name: what it is called here.
        styles: words for its look, as they stand before "style"; the first is the plainest.
        family: sets of one family share designs or designers: of a thing all of them are held out, or none.
        package: where the drawings are.
        title, author, license, source: for the attribution.
    """

    name: str
    styles: tuple[str, ...]
    family: str
    package: Package
    title: str
    author: str
    license: str
    source: str

    @property
    def style(self) -> str:
        """The plainest word for its look."""
        return self.styles[0]


def _iconify(prefix: str, version: str, sha256: str) -> Package:
    return Package(f"@iconify-json/{prefix}", version, sha256)


EMOJIBASE = Package("emojibase-data", "17.0.0", "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a")
"""Names, keywords and groups."""

THREE_D = "fluent-3d"
"""The hand that is rendered, not drawn in SVG."""

HANDS: tuple[Hand, ...] = (
    Hand(
        "noto",
        ("shaded", "detailed"),
        "noto",
        _iconify("noto", "1.2.9", "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad"),
        "Noto Emoji",
        "Google Inc",
        "Apache-2.0",
        "https://github.com/googlefonts/noto-emoji",
    ),
    Hand(
        "noto-v1",
        ("retro", "old-fashioned"),
        "noto",
        _iconify("noto-v1", "1.2.5", "2bf62c26c2c2884aa99e90aec942cdaee17a5921f05690694f4978ad4b017c37"),
        "Noto Emoji (v1)",
        "Google Inc",
        "Apache-2.0",
        "https://github.com/googlefonts/noto-emoji",
    ),
    Hand(
        "twemoji",
        ("bold", "graphic"),
        "twemoji",
        _iconify("twemoji", "1.2.5", "19046dff7d8707ce96212ec86468b36ac5f8e60409629dd13f809265c6d0ebb7"),
        "Twitter Emoji",
        "Twitter, Inc and other contributors",
        "CC-BY-4.0",
        "https://github.com/jdecked/twemoji",
    ),
    Hand(
        "fluent-flat",
        ("flat", "minimal"),
        "fluent",
        _iconify("fluent-emoji-flat", "1.2.6", "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175"),
        "Fluent Emoji Flat",
        "Microsoft Corporation",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Hand(
        THREE_D,
        ("3D", "glossy"),
        "fluent",
        Package(
            "@lobehub/fluent-emoji-3d", "1.1.0", "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58"
        ),
        "Fluent Emoji 3D",
        "Microsoft Corporation, packaged by LobeHub",
        "MIT",
        "https://github.com/microsoft/fluentui-emoji",
    ),
    Hand(
        "emojione",
        ("cartoon", "comic"),
        "emojione",
        _iconify("emojione", "1.2.3", "26a14f44284407e8bcde91799388dca2bfd91dbcd55a97f425524a1c5b73610e"),
        "Emoji One (Colored)",
        "Emoji One",
        "CC-BY-4.0",
        "https://github.com/EmojiTwo/emojitwo",
    ),
    Hand(
        "fxemoji",
        ("playful", "simple"),
        "fxemoji",
        _iconify("fxemoji", "1.2.2", "f3e72b3c59d05e1db03b7e308d55c0d05bd7ba3f625a90da1b79313c12858eef"),
        "Firefox OS Emoji",
        "Mozilla",
        "Apache-2.0",
        "https://github.com/mozilla/fxemoji",
    ),
)
"""The sets that are learnt from."""

STRANGER = Hand(
    "openmoji",
    ("outlined",),
    "openmoji",
    _iconify("openmoji", "1.2.29", "03181e2c156cab35cf4a62f1f7886bd971d59212e75ac3f189d5a4cae3930fc5"),
    "OpenMoji",
    "OpenMoji",
    "CC-BY-SA-4.0",
    "https://github.com/hfg-gmuend/openmoji",
)
"""The set that nothing ever learns from: it shows what a model makes of a hand that it has never seen."""
