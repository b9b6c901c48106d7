import json
from pathlib import Path

import pytest

from tests.unit.training import drawn_data
from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.evaluation.made import made_files, made_texts
from versatile_diffusion.evaluation.samples import (
    EvaluationSample,
    choose_samples,
    read_items,
    read_samples,
    write_samples,
)
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.text_spec import TEXT

BOTH = {IMAGE.name, TEXT.name}


def sample(number: int, key: str) -> EvaluationSample:
    return EvaluationSample(number, number, key, "a tent", ("a tent",))


SAMPLES = [sample(0, "val/COCO_val2014_000000000042.jpg"), sample(1, "val/COCO_val2014_000000000139.jpg")]


def test_equal_seeds_choose_the_same_samples_and_captions(tmp_path: Path) -> None:
    data = drawn_data.folder(tmp_path, 16)
    one, same, other = (choose_samples(CaptionedData(data), BOTH, 6, seed) for seed in (1, 1, 2))
    assert one == same and {each.key for each in one} != {each.key for each in other}
    assert [each.number for each in one] == list(range(6)) and [each.row for each in one] == sorted(e.row for e in one)
    assert all(each.caption in each.captions for each in one)
    write_samples(one, tmp_path / "samples.jsonl")
    assert read_samples(tmp_path / "samples.jsonl") == one


def test_the_choice_depends_on_no_other_samples(tmp_path: Path) -> None:
    """Whoever is chosen of many is chosen of fewer."""
    many = choose_samples(CaptionedData(drawn_data.folder(tmp_path / "many", 20)), BOTH, 6, 0)
    few = choose_samples(CaptionedData(drawn_data.folder(tmp_path / "few", 12)), BOTH, 6, 0)
    kept = {each.key for each in many if int(Path(each.key).name) < 12}
    assert kept and kept <= {each.key for each in few}


def test_what_cannot_be_read_is_replaced(tmp_path: Path) -> None:
    data = drawn_data.folder(tmp_path, 12)
    chosen = choose_samples(CaptionedData(data), BOTH, 8, 0)
    (tmp_path / f"{chosen[2].key}.png").write_bytes(b"no picture")
    (tmp_path / f"{chosen[5].key}.txt").write_bytes(b"\xff\xfe\x00")
    read = CaptionedData(data)
    again = choose_samples(read, BOTH, 8, 0)
    assert len(again) == 8 and {chosen[2].key, chosen[5].key} <= set(read.skipped.reasons)
    assert len({each.key for each in again} & {each.key for each in chosen}) == 6


def test_too_few_samples_are_told(tmp_path: Path) -> None:
    data = drawn_data.folder(tmp_path, 4)
    with pytest.raises(ValueError, match=r"has 4 samples with image and text, and 9 are asked for. Give --num 4"):
        choose_samples(CaptionedData(data), BOTH, 9, 0)
    for file in tmp_path.rglob("*.txt"):
        file.unlink()
    with pytest.raises(ValueError, match=r"has 0 samples with image and text, and two or more are needed"):
        choose_samples(CaptionedData(data), BOTH, None, 0)
    assert len(choose_samples(CaptionedData(data), {IMAGE.name}, None, 0)) == 4


def test_an_image_that_is_gone_is_named(tmp_path: Path) -> None:
    data = drawn_data.folder(tmp_path, 4)
    chosen = choose_samples(CaptionedData(data), BOTH, 4, 0)
    assert len(list(read_items(CaptionedData(data), chosen[1:3], IMAGE.name))) == 2
    (tmp_path / f"{chosen[1].key}.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=f"{chosen[1].key} of .* cannot be read any more: "):
        list(read_items(CaptionedData(data), chosen, IMAGE.name))


@pytest.mark.parametrize(
    "names",
    [("000000.png", "000001.png"), ("0.jpg", "1.webp"), [f"deep/{Path(each.key).stem}.png" for each in SAMPLES]],
)
def test_files_are_found_by_number_or_by_key(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "7.txt").touch()
    assert made_files(tmp_path, SAMPLES, IMAGE.codec) == [tmp_path / name for name in names]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "0.png").touch()
    with pytest.raises(ValueError, match=r"lacks what was made of 1 of 2 samples: 000001 \(val/COCO_val2014_0+139"):
        made_files(tmp_path, SAMPLES, IMAGE.codec)
    with pytest.raises(ValueError, match=r"There is no folder"):
        made_files(tmp_path / "none", SAMPLES, IMAGE.codec)


@pytest.mark.parametrize(
    "entries",
    [
        [{"number": 1, "text": "b"}, {"number": 0, "text": "a"}],
        [{"key": each.key, "text": text} for each, text in zip(SAMPLES, "ab", strict=True)],
        [{"image_id": 42, "caption": "a"}, {"image_id": 139, "caption": "b"}],
    ],
)
def test_texts_are_found_in_lists(entries: list[dict[str, object]], tmp_path: Path) -> None:
    lines, array = tmp_path / "made.jsonl", tmp_path / "made.json"
    lines.write_text("\n".join(map(json.dumps, entries)))
    array.write_text(json.dumps(entries, indent=1))
    assert made_texts(lines, SAMPLES, TEXT.codec) == made_texts(array, SAMPLES, TEXT.codec) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfeb", "is not a text in UTF-8"),
        (b"{", "is no list of objects of JSON"),
        (b'{"text": "a"}', "entry 1: an object with text or caption"),
        (b'{"number": 0, "text": "a"}', "lacks what was made of 1 of 2 samples"),
    ],
)
def test_a_list_that_cannot_be_used_is_told(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "made.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        made_texts(file, SAMPLES, TEXT.codec)


def test_a_folder_of_texts_is_read(tmp_path: Path) -> None:
    (tmp_path / "0.txt").write_text("a tent\n")
    (tmp_path / "1.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"1.txt.*UTF-8"):
        made_texts(tmp_path, SAMPLES, TEXT.codec)
    (tmp_path / "1.txt").write_text("")
    assert made_texts(tmp_path, SAMPLES, TEXT.codec) == ["a tent", ""]
