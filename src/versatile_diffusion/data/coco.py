"""Captions as COCO writes them: one file of images and annotations, and the images somewhere near."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ValidationError

from versatile_diffusion.data.sample import Row, SamplePart, file_modality, words_modality

_CAPTIONS = "captions_"


class _Image(BaseModel):
    id: int
    file_name: str


class _Annotation(BaseModel):
    image_id: int
    caption: str


class _Captions(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]


def captions_file(source: Path) -> Path | None:
    """Returns the file of captions that a source is, or that it holds as a folder; None if there is none.

    A folder holds captions_*.json itself or in its folder annotations, as COCO's archives unpack; of several it is the
    one whose images are there, such as captions_val2014.json beside val2014.
    """
    if not source.is_dir():
        return source if _is_coco(source) else None
    found = [file for place in (source, source / "annotations") for file in sorted(place.glob(f"{_CAPTIONS}*.json"))]
    with_images = [file for file in found if (source / file.stem.removeprefix(_CAPTIONS)).is_dir()]
    chosen = with_images if len(with_images) == 1 else found
    return chosen[0] if len(chosen) == 1 and _is_coco(chosen[0]) else None


def _is_coco(file: Path) -> bool:
    """Tells whether this is a file of captions, by its suffix and how it begins."""
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    with file.open(encoding="utf-8", errors="replace") as opened:
        return opened.read(1000).lstrip().startswith("{")


def coco_rows(file: str) -> Iterator[Row]:
    """Yields a row for each image, with all its captions. Images are looked for beside the file and one folder up.

    Raises:
        ValueError: if the file is no such file; the message says what is missing.
    """
    path = Path(file)
    found = _read(path)
    captions: dict[int, list[str]] = {}
    for annotation in found.annotations:
        captions.setdefault(annotation.image_id, []).append(annotation.caption)
    folders = _folders(path)
    for image in found.images:
        places = (folder / image.file_name for folder in folders)
        place = next((each for each in places if each.is_file()), path.parent / image.file_name)
        modality = file_modality(image.file_name)
        own = [] if modality is None else [SamplePart(modality, place)]
        yield Row(image.file_name, [*own, *(SamplePart(words_modality(), each) for each in captions.get(image.id, []))])


def coco_images(file: str) -> int:
    """Returns how many images a file names.

    Raises:
        ValueError: see `coco_rows`.
    """
    return len(_read(Path(file)).images)


def _read(path: Path) -> _Captions:
    try:
        return _Captions.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValidationError, ValueError) as error:
        raise ValueError(
            f"{path} is no file of captions as COCO writes them: it needs images (id, file_name) and annotations "
            f"(image_id, caption). {str(error).splitlines()[0]}."
        ) from error


def _folders(file: Path) -> list[Path]:
    """Where the images may be: beside the file, one folder up, and in the folders of both."""
    roots = (file.parent, file.parent.parent)
    return [*roots, *(each for root in roots for each in sorted(root.iterdir()) if each.is_dir())]
