"""Packages of npm that hold a few made-up emoji, in the files in which the real ones have theirs."""

import io
import json
import tarfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from versatile_diffusion.worlds.emoji.data import catalog, hands
from versatile_diffusion.worlds.emoji.data.hands import HANDS, STRANGER, THREE_D, Hand
from versatile_diffusion.worlds.emoji.data.packages import Package

LISTED = [
    ("1F34E", "red apple", ["fruit", "food"], 4, 30),
    ("1F98A", "fox", ["animal", "face"], 3, 20),
    ("1F989", "owl", ["bird", "wise"], 3, 20),
    ("1F511", "key", ["lock", "password"], 7, 40),
    ("2764", "red heart", ["love"], 0, 50),
    ("1F499", "blue heart", ["love", "blue"], 0, 50),
    ("1F553", "four o’clock", ["time"], 5, 60),
    ("1F524", "input latin letters", ["abc"], 8, 70),
    ("1F468-200D-1F373", "man cook", ["chef"], 1, 80),
    ("1F3C1", "chequered flag", ["race"], 9, 90),
    ("1F916", "robot", ["machine"], 0, 55),
]
SUBGROUPS = {
    30: "food-fruit",
    20: "animal",
    40: "lock",
    50: "heart",
    55: "face",
    60: "time",
    70: "alphanum",
    80: "person-role",
}
SHAPES = ('<circle cx="8" cy="8" r="{r}" fill="{c}"/>', '<rect x="2" y="2" width="{r}" height="12" fill="{c}"/>')


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Writes packages with these emoji, and makes the catalogue take them for the pinned ones."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"en/data.json": _listed(), "meta/groups.json": _groups(), "meta/unicode-names.json": b"{}"}
    emojibase = _write(folder, hands.EMOJIBASE, files)
    drawn = tuple(_installed(folder, hand, number) for number, hand in enumerate(HANDS))
    stranger = _installed(folder, STRANGER, len(HANDS))
    for module, name, value in (
        (catalog, "EMOJIBASE", emojibase),
        (catalog, "HANDS", drawn),
        (catalog, "STRANGER", stranger),
    ):
        monkeypatch.setattr(module, name, value)
    return folder


def _installed(folder: Path, hand: Hand, number: int) -> Hand:
    files = _webps(number) if hand.name == THREE_D else {"icons.json": _icons(number)}
    return replace(hand, package=_write(folder, hand.package, files))


def _icons(number: int) -> bytes:
    icons = {
        label.replace("’", "").replace(" ", "-"): {
            "body": SHAPES[i % 2].format(r=3 + i % 5, c=f"#{40 + 20 * number:02x}8{i % 10}40")
        }
        for i, (_, label, *_) in enumerate(LISTED)
    }
    del icons["fox"]
    icons["fox-face"] = {"body": SHAPES[0].format(r=6, c="#f80")}
    aliases = {"fox": {"parent": "fox-face"}, "robot": {"parent": "fox-face", "hFlip": True}}
    del icons["robot"]
    return json.dumps({"prefix": "made-up", "icons": icons, "aliases": aliases, "width": 16, "height": 16}).encode()


def _webps(number: int) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for i, (identity, *_) in enumerate(LISTED):
        file = io.BytesIO()
        Image.new("RGBA", (40, 40), (20 * i, 20 * number, 90, 255)).save(file, "WEBP", lossless=True)
        found[f"assets/{identity.lower()}.webp"] = file.getvalue()
    return found


def _listed() -> bytes:
    rows = [
        {"hexcode": identity, "label": label, "tags": tags, "group": group, "subgroup": subgroup, "order": i}
        for i, (identity, label, tags, group, subgroup) in enumerate(LISTED)
    ]
    return json.dumps(rows).encode()


def _groups() -> bytes:
    return json.dumps({"groups": {}, "subgroups": {str(key): name for key, name in SUBGROUPS.items()}}).encode()


def _write(folder: Path, package: Package, files: dict[str, bytes]) -> Package:
    path = folder / package.file
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return replace(package, sha256=sha256(path.read_bytes()).hexdigest())
