"""Writes the data set: folders of images, each with its metadata.jsonl, which any trainer of captioned images reads.

    OUTPUT/NOTICE.md                    where everything is from, and under which licences
    OUTPUT/things.json                  all things with their names, keywords and hands
    OUTPUT/train/metadata.jsonl         a line for each image: file_name, texts, thing, hand, treatment, …
    OUTPUT/train/000/000000.png         1,000 images to a folder
    OUTPUT/validation/…                 and so every part; see `EmojiSplit`

Images are written a folder at a time, so that a build that was killed goes on with the folders that are missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

from PIL import Image
from rich.progress import track

from versatile_diffusion.files import read_lines, write_whole
from versatile_diffusion.worlds.emoji.data.catalog import Catalog, read_catalog
from versatile_diffusion.worlds.emoji.data.notice import notice
from versatile_diffusion.worlds.emoji.data.samples import LARGEST, MOVED, SIZE, SMALLEST, EmojiSample, EmojiSamples
from versatile_diffusion.worlds.emoji.data.split import EmojiSplit
from versatile_diffusion.worlds.emoji.data.things import THINGS

METADATA, NOTICE, SETTINGS = "metadata.jsonl", "NOTICE.md", "settings.json"
FOLDER = 1000
"""Images in a folder."""
SHARES: Mapping[EmojiSplit, float] = {
    EmojiSplit.VALIDATION: 1 / 16,
    EmojiSplit.HELD_OUT: 1 / 16,
    EmojiSplit.JUDGE: 1 / 4,
    EmojiSplit.STRANGER: 1 / 16,
}
"""Images of the other parts, as shares of those to learn from."""
FEWEST: Mapping[EmojiSplit, int] = {EmojiSplit.VALIDATION: 64, EmojiSplit.HELD_OUT: 8}
"""Images of a part that there must be: to pick a text among as many, and to compare sets of them."""


@dataclass(frozen=True)
class _Part:
    """Images of one folder."""

    packages: Path
    folder: Path
    split: EmojiSplit
    seed: int
    start: int
    stop: int

    @property
    def lines(self) -> Path:
        """Its lines of the metadata, written when all its images are."""
        return self.folder / f".{self.start // FOLDER:03}-{self.stop}.jsonl"

    def write(self) -> None:
        """Unless it is there."""
        if self.lines.exists():
            return
        samples = EmojiSamples(_catalog(self.packages), self.split, self.seed)
        found: list[str] = []
        for index in range(self.start, self.stop):
            name = f"{index // FOLDER:03}/{index:06}.png"
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(samples.draw(index)).save(file, compress_level=4)
            found.append(json.dumps({"file_name": name, **_facts(samples[index])}, ensure_ascii=False))
        write_whole(self.lines, ("\n".join(found) + "\n").encode())


def build(
    output: Path, packages: Path, images: int, seed: int, say: Callable[[str], None], fetches: bool = True
) -> Path:
    """Writes the data set.

    Args:
        output: the folder to write; a build that was begun there goes on.
        packages: the folder of the packages.
        images: how many there are to learn from; the other parts have shares of them.
        seed: of places, sizes and texts. What is held out does not depend on it.
        say: is told what is done.
        fetches: whether to fetch packages that are missing, with npm.

    Returns:
        The output.

    Raises:
        ValueError: if the output holds a data set of another seed, or a package is not the pinned one.
        FileNotFoundError: if a package is missing, or npm is.
    """
    _require_same(output, seed)
    if _is_whole(output, images):
        return output
    catalog = read_catalog(packages, say if fetches else None)
    write_whole(output / THINGS, (json.dumps(_things(catalog), indent=1, ensure_ascii=False) + "\n").encode())
    write_whole(output / NOTICE, notice().encode())
    say(f"{len(catalog.things)} things, {len(catalog.pairs)} drawings of them, {SIZE} pixels")
    parts = [
        part
        for split in EmojiSplit
        for part in _parts(output / split.value, packages, split, seed, _count(images, split))
    ]
    with ExitStack() as stack:
        run = map
        if images > FOLDER:
            workers = stack.enter_context(ProcessPoolExecutor(mp_context=get_context("spawn")))
            run = workers.map
        for _ in track(run(_Part.write, parts), "drawing", total=len(parts)):
            pass
    for split in EmojiSplit:
        own = [part for part in parts if part.split is split]
        write_whole(output / split.value / METADATA, b"".join(part.lines.read_bytes() for part in own))
    return output


def _is_whole(output: Path, images: int) -> bool:
    files = {split: output / split.value / METADATA for split in EmojiSplit}
    return all(file.is_file() and len(read_lines(file)) == _count(images, split) for split, file in files.items())


def _count(images: int, split: EmojiSplit) -> int:
    return max(round(images * SHARES.get(split, 1)), FEWEST.get(split, 1))


def _parts(folder: Path, packages: Path, split: EmojiSplit, seed: int, count: int) -> Iterator[_Part]:
    for start in range(0, count, FOLDER):
        yield _Part(packages, folder, split, seed, start, min(start + FOLDER, count))


_CATALOGS: dict[Path, Catalog] = {}


def _catalog(packages: Path) -> Catalog:
    """The catalogue, read once in a process."""
    if packages not in _CATALOGS:
        _CATALOGS[packages] = read_catalog(packages)
    return _CATALOGS[packages]


def _facts(sample: EmojiSample) -> dict[str, object]:
    cell = sample.cell
    return {
        "texts": list(sample.texts),
        "thing": cell.thing.id,
        "name": cell.thing.name,
        "group": cell.thing.group,
        "hand": cell.hand.name,
        "style": cell.hand.style,
        "treatment": cell.treatment.name,
        "color": sample.color if cell.treatment.colored else None,
        "place": [round(share, 3) for share in (sample.left, sample.top, sample.side)],
        "split": sample.split.value,
        "holds_out_hand": cell.holds_out_hand,
        "holds_out_treatment": cell.holds_out_treatment,
        "license": cell.hand.license,
    }


def _things(catalog: Catalog) -> list[dict[str, object]]:
    hands: dict[str, list[str]] = {}
    for thing, hand in (*catalog.pairs, *catalog.strange_pairs):
        hands.setdefault(thing.id, []).append(hand.name)
    return [{**asdict(thing), "hands": hands[thing.id]} for thing in catalog.things]


def _require_same(output: Path, seed: int) -> None:
    """Keeps what the data set is made with."""
    file, settings = output / SETTINGS, {"seed": seed, "size": SIZE, "sides": [SMALLEST, LARGEST], "moved": MOVED}
    if file.exists() and (begun := json.loads(file.read_text())) != settings:
        raise ValueError(f"{output} was begun with {begun}, not {settings}: choose another --output, or remove it.")
    write_whole(file, json.dumps(settings).encode())
