import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from tests.unit.training import drawn_data
from tests.unit.training.drawn_data import FORMATS, captions, jsonl, tars
from versatile_diffusion.data.captioned_data import CaptionedData, SkippedSamples
from versatile_diffusion.data.cleaning import clean_caption
from versatile_diffusion.data.overview import look_at
from versatile_diffusion.data.samples_sheet import samples_sheet
from versatile_diffusion.modalities.base import Modality
from versatile_diffusion.modalities.registry import modality_names, modality_spec

MODALITIES: dict[str, Modality] = {name: modality_spec(name).load()() for name in modality_names()}


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_every_format_gives_the_same_samples(write: Callable[[Path, int], str], tmp_path: Path) -> None:
    data = CaptionedData(write(tmp_path / "data", 6))
    samples = sorted(data.samples(MODALITIES), key=lambda sample: sample.key.rpartition("/")[2])
    assert len(samples) == 6 and not data.skipped.reasons
    said = sorted(str(sample.items["text"][0]) for sample in samples)
    assert said == sorted(captions(index)[0] for index in range(6))
    for sample in samples:
        (image,) = sample.items["image"]
        assert isinstance(image, Tensor) and image.shape == (3, 40, 40)
    several = {len(sample.items["text"]) for sample in samples}
    assert several == ({1} if write.__name__ in ("csv", "parquet") else {1, 2})


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_every_format_is_read_on_from_its_state(write: Callable[[Path, int], str], tmp_path: Path) -> None:
    source = write(tmp_path / "data", 6)
    whole = [row.key for row in CaptionedData(source).rows()]
    data = CaptionedData(source)
    rows = data.rows()
    first = [next(rows).key for _ in range(2)]
    state = json.loads(json.dumps(data.table.state_dict()))
    again = CaptionedData(source)
    again.table.load_state_dict(state)
    assert first + [row.key for row in again.rows()] == whole


def test_what_cannot_be_used_is_left_out_and_named(tmp_path: Path) -> None:
    source = Path(drawn_data.folder(tmp_path / "data", 6))
    (source / "part-0" / "000.png").write_bytes(b"no picture")
    (source / "part-1" / "001.txt").write_text("  \n")
    (source / "part-0" / "002.txt").write_bytes(b"\xff\xfe\x00")
    (source / ".hidden").mkdir()
    (source / ".hidden" / "no.png").write_bytes(b"")
    skipped = SkippedSamples(tmp_path / "skipped.jsonl")
    found = look_at(CaptionedData(str(source), skipped), MODALITIES)
    lines = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert found.samples == 3
    assert {Path(line["key"]).name for line in lines} == {"000", "001", "002"}
    reasons = " ".join(line["reason"] for line in lines)
    assert "whole" in reasons or "cannot identify" in reasons
    assert "empty" in reasons and "UTF-8" in reasons
    with pytest.raises(ValueError, match=r"part-.*--strict"):
        list(CaptionedData(str(source), SkippedSamples(strict=True)).samples(MODALITIES))


def test_a_tar_that_was_cut_short_gives_what_is_whole_of_it(tmp_path: Path) -> None:
    source = Path(tars(tmp_path / "data", 8))
    cut = source / "00000.tar"
    cut.write_bytes(cut.read_bytes()[:3000])
    data = CaptionedData(str(source))
    samples = list(data.samples(MODALITIES))
    assert 4 <= len(samples) < 8
    assert any("damaged" in reason for reason in data.skipped.reasons.values())


@pytest.mark.parametrize("end", [0, 100])
def test_a_tar_that_was_cut_between_two_files_or_in_a_header_is_named(end: int, tmp_path: Path) -> None:
    tar = tmp_path / "cut.tar"
    Path(tars(tmp_path / "data", 8), "00000.tar").rename(tar)
    with tarfile.open(tar) as file:
        third = file.getmembers()[2].offset
    tar.write_bytes(tar.read_bytes()[: third + end])  # which Python's reader takes for the end
    data = CaptionedData(str(tar))
    assert len(list(data.samples(MODALITIES))) == 1
    assert "what follows in it is lost" in data.skipped.reasons[str(tar)]


def test_a_damaged_parquet_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    source = Path(drawn_data.parquet(tmp_path / "data", 8))
    damaged = source / "part-0.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    data = CaptionedData(str(source))
    assert len(list(data.samples(MODALITIES))) == 4 and data.estimate() == 4
    assert "damaged" in data.skipped.reasons[str(damaged)]


def test_a_tar_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"no tar" * 100)
    data = CaptionedData(str(tmp_path))
    assert not list(data.samples(MODALITIES)) and data.estimate() is None
    assert "damaged" in data.skipped.reasons[str(tmp_path / "no.tar")]


def test_links_to_folders_are_followed_and_never_in_a_circle(tmp_path: Path) -> None:
    drawn_data.folder(tmp_path / "elsewhere", 4)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "itself").symlink_to(tmp_path / "data")
    data = CaptionedData(str(tmp_path / "data"))
    assert sorted(row.key for row in data.rows()) == [f"linked/part-{i % 2}/{i:03d}" for i in (0, 2, 1, 3)]


def test_tables_beside_their_files_may_lie_in_several_folders(tmp_path: Path) -> None:
    """As the hub's image folders keep their splits."""
    jsonl(tmp_path / "data" / "train", 4)
    drawn_data.csv(tmp_path / "data" / "more" / "test", 3)
    data = CaptionedData(str(tmp_path / "data"))
    samples = {sample.key: sample.items["text"][0] for sample in data.samples(MODALITIES)}
    assert data.estimate() == 7 and not data.skipped.reasons
    assert samples["train/002.png"] == samples["more/test/002.png"] == captions(2)[0]
    assert len(samples) == 7


def test_pictures_without_captions_and_captions_without_pictures_are_samples(tmp_path: Path) -> None:
    drawn_data.picture(1).save(tmp_path / "alone.png")
    (tmp_path / "words.txt").write_text("a tent")
    kinds = look_at(CaptionedData(str(tmp_path)), MODALITIES).kinds
    assert kinds == {("image",): 1, ("text",): 1}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    source = Path(jsonl(tmp_path / "data", 3))
    (source / "001.png").unlink()
    data = CaptionedData(str(source))
    assert len(list(data.samples(MODALITIES))) == 2
    assert "001.png" in data.skipped.reasons["001.png"]


@pytest.mark.parametrize("nested", [False, True])
def test_lines_that_are_no_records_are_named(tmp_path: Path, nested: bool) -> None:
    source = Path(jsonl(tmp_path / "data" / ("train" if nested else ""), 3))
    first, *others = (source / "metadata.jsonl").read_bytes().splitlines()
    wrong = [b'{"file_name": "000.png", "text', b"[1, 2]", b'{"file_name": "001.png", "text": "caf\xe9"}', b"7"]
    (source / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join([first, b"", *wrong, *others]) + b"\n")
    data = CaptionedData(str(tmp_path / "data"))
    assert [Path(sample.key).name for sample in data.samples(MODALITIES)] == ["000.png", "001.png", "002.png"]
    told = " ".join(data.skipped.reasons.values())
    assert len(data.skipped.reasons) == len(wrong)
    assert all(each in told for each in ("Record 2 is not JSON", "Record 3 is not an object", "Record 4 is not a text"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("nothing-here", "There is no data set"), ("notes.md", "no data set of a format that is known")],
)
def test_what_is_no_data_set_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("notes")
    with pytest.raises((ValueError, OSError), match=message):
        CaptionedData(str(tmp_path / name))


def test_other_json_is_no_file_of_captions(tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text("{}")
    with pytest.raises(ValueError, match="as COCO writes them"):
        list(CaptionedData(str(file)).rows())


def test_an_overview_shows_sizes_captions_and_samples(tmp_path: Path) -> None:
    source = Path(drawn_data.folder(tmp_path, 4))
    drawn_data.picture(0, (80, 40)).save(source / "wide.png")
    found = look_at(CaptionedData(str(source)), MODALITIES)
    assert dict(found.aspects())["0.95 – 1.05"] == 4 and dict(found.aspects())["2 and wider"] == 1
    assert found.captions == {1: 2, 2: 2, 0: 1}
    sheet = samples_sheet(found.shown)
    assert isinstance(sheet, Image.Image) and sheet.height > 4 * 256
    assert json.loads(json.dumps(found.as_dict()))["samples"] == 5


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("A red tent", "A red tent"),
        ("<b>A red</b> tent &amp; a house", "A red tent & a house"),
        ("A red tent http://example.org/x?y=1", "A red tent"),
        ("A red tent, mail me@example.org", "A red tent, mail"),
        ("IMG_1234.JPG a red tent #camping", "a red tent"),
        ("call 555 123 4567!!! now", "call ! now"),
        ("#tent", "#tent"),
    ],
)
def test_captions_are_cleaned_for_flows_to_texts(caption: str, cleaned: str) -> None:
    assert clean_caption(caption) == cleaned


@given(st.text(max_size=200))
def test_cleaning_leaves_something(text: str) -> None:
    assert bool(clean_caption(text)) == bool(text)


def test_a_folder_as_coco_unpacks_is_recognised(tmp_path: Path) -> None:
    """Of several files of captions the one whose images are there is meant; two such files leave it open."""
    drawn_data.coco(tmp_path / "coco", 3)
    annotations = tmp_path / "coco" / "annotations"
    shutil.copy(annotations / "captions_val.json", annotations / "captions_train.json")
    data = CaptionedData(str(tmp_path / "coco"))
    assert data.format.about.startswith("captions as COCO") and len(list(data.rows())) == 3
    (tmp_path / "coco" / "train").mkdir()
    assert not CaptionedData(str(tmp_path / "coco")).format.about.startswith("captions as COCO")


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_every_format_tells_about_how_many_samples_there_are(write: Callable[[Path, int], str], tmp_path: Path) -> None:
    assert CaptionedData(write(tmp_path / "data", 60)).estimate() == pytest.approx(60, rel=0.1)


def test_the_samples_of_many_tars_are_estimated_from_the_first(tmp_path: Path) -> None:
    assert CaptionedData(drawn_data.many_tars(tmp_path, 3000, 500)).estimate() == pytest.approx(3000, rel=0.05)


@pytest.mark.parametrize("write", FORMATS, ids=lambda write: write.__name__)
def test_every_format_names_its_samples_the_same_in_any_order(
    write: Callable[[Path, int], str], tmp_path: Path
) -> None:
    source = write(tmp_path / "data", 6)
    orders = []
    for epoch in range(4):
        data = CaptionedData(source)
        data.table.set_epoch(epoch)
        orders.append([(row.key, len(row.parts)) for row in data.rows()])
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len(set(orders[0])) == 6
