"""Small data sets in every format, drawn for tests."""

import io
import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "black", "white")


def picture(index: int, size: tuple[int, int] = (40, 40)) -> Image.Image:
    """A square of a colour on another."""
    image = Image.new("RGB", size, COLOURS[index % 8])
    image.paste(COLOURS[(index + 1 + index // 8) % 8], (8, 8, size[0] - 8, size[1] - 8))
    return image


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def captions(index: int) -> list[str]:
    return [f"a {COLOURS[index % 8]} tent", f"a {COLOURS[index % 8]} house by the sea"][: 1 + index % 2]


def folder(place: Path, count: int) -> str:
    """Pictures with captions of the same name."""
    for index in range(count):
        file = place / f"part-{index % 2}" / f"{index:03d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(index).save(file)
        file.with_suffix(".txt").write_text("\n".join(captions(index)) + "\n")
    return str(place)


def jsonl(place: Path, count: int) -> str:
    """Pictures beside a metadata.jsonl."""
    place.mkdir(parents=True)
    lines: list[str] = []
    for index in range(count):
        picture(index).save(place / f"{index:03d}.png")
        lines.append(json.dumps({"file_name": f"{index:03d}.png", "texts": captions(index), "similarity": 0.1 * index}))
    (place / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return str(place)


def csv(place: Path, count: int) -> str:
    """Pictures beside a metadata.csv."""
    place.mkdir(parents=True)
    lines = ["file_name,caption"]
    for index in range(count):
        picture(index).save(place / f"{index:03d}.png")
        lines.append(f'{index:03d}.png,"{captions(index)[0]}"')
    (place / "metadata.csv").write_text("\n".join(lines) + "\n")
    return str(place)


def parquet(place: Path, count: int) -> str:
    """Pictures and captions in two parquet files."""
    from datasets import Dataset
    from datasets import Image as ImageFeature

    place.mkdir(parents=True)
    for half in range(2):
        rows = range(half, count, 2)
        table = Dataset.from_dict({"image": [picture(i) for i in rows], "caption": [captions(i)[0] for i in rows]})
        table.cast_column("image", ImageFeature()).to_parquet(str(place / f"part-{half}.parquet"))
    return str(place)


def tars(place: Path, count: int) -> str:
    """Pictures and captions in two tars of webdataset."""
    place.mkdir(parents=True)
    for half in range(2):
        with tarfile.open(place / f"{half:05d}.tar", "w") as tar:
            for index in range(half, count, 2):
                add(tar, f"{index:05d}.png", png(picture(index)))
                add(tar, f"{index:05d}.txt", "\n".join(captions(index)).encode())
    return str(place)


def many_tars(place: Path, count: int, each: int = 1000, size: tuple[int, int] = (24, 24)) -> str:
    """Small pictures, eight in all to be quick, with captions and what LAION says of them, in tars of so many."""
    place.mkdir(parents=True, exist_ok=True)
    pictures = [png(picture(index, size)) for index in range(8)]
    for number, start in enumerate(range(0, count, each)):
        with tarfile.open(place / f"{number:05d}.tar", "w") as tar:
            for index in range(start, min(start + each, count)):
                add(tar, f"{index:07d}.png", pictures[index % 8])
                add(tar, f"{index:07d}.txt", captions(index)[0].encode())
                facts = {"similarity": 0.31 + 0.01 * (index % 8), "punsafe": 0.01 * (index % 8), "pwatermark": 0.1}
                add(tar, f"{index:07d}.json", json.dumps(facts).encode())
    return str(place)


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def coco(place: Path, count: int) -> str:
    """Pictures in a folder, and captions as COCO writes them in another."""
    (place / "val").mkdir(parents=True)
    (place / "annotations").mkdir()
    images, annotations = list[dict[str, object]](), list[dict[str, object]]()
    for index in range(count):
        picture(index).save(place / "val" / f"{index:03d}.png")
        images.append({"id": 100 + index, "file_name": f"{index:03d}.png"})
        annotations += [{"image_id": 100 + index, "caption": each} for each in captions(index)]
    file = place / "annotations" / "captions_val.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    return str(file)


FORMATS: Sequence[Callable[[Path, int], str]] = (folder, jsonl, csv, parquet, tars, coco)
