"""`vd evaluate images` and `vd evaluate texts` on small folders of captioned pictures."""

import json
import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from huggingface_hub import metadata_load
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from tests import processes
from tests.unit.cli.killed_command import deadly_vd
from tests.unit.training import drawn_data
from versatile_diffusion.cli import app
from versatile_diffusion.worlds.postcards import Postcards, Split

QUICK = ("--steps", "2", "--bootstrap", "4", "--dtype", "fp32")


def vd(*words: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *map(str, words)])


def figures(file: Path) -> dict[str, Any]:
    return {flow: found["figures"] for flow, found in json.loads(file.read_text())["flows"].items()}


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("0*.*")}


@pytest.fixture(scope="module")
def postcards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("postcards")
    source = Postcards(5, 6, Split.ALL, 64)
    for number in range(6):
        Image.fromarray(source[number].image).save(folder / f"card-{number}.png")
        (folder / f"card-{number}.txt").write_text(source[number].caption)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return drawn_data.folder(tmp_path_factory.mktemp("data"), 9)


def require_in_card(card: Path, found: dict[str, Any], data: str) -> None:
    """Figures stand in a model card for people and for the hub, beside what it had of other data."""
    told, held = card.read_text(), cast("dict[str, Any]", metadata_load(card))  # which it has; see the tags
    results = held["model-index"][0]["results"]
    assert "- lora" in told and "long ago" in told
    for flow, of_flow in found.items():
        assert told.count(f"## Measured: {flow} on {data}") == 1
        for name, figure in of_flow.items():
            assert f"| {name} | {figure['value']:.4g} |" in told
    values = [metric["value"] for each in results for metric in each["metrics"]]
    assert values == [round(figure["value"], 4) for of_flow in found.values() for figure in of_flow.values()]


def test_images_of_the_bundled_model(postcards: Path, tmp_path: Path) -> None:
    out, sheet, kept = tmp_path / "out.json", tmp_path / "sheet.png", tmp_path / "kept"
    card = tmp_path / "README.md"
    card.write_text("---\ntags:\n- lora\n---\n\n# Mine\n\n## Measured: text-to-image on others\n\nlong ago\n")
    words = ("--data", postcards, *QUICK, "--batch-size", 3, "--output", kept, "--card", tmp_path)
    done = vd("images", *words, "--json", out, "--sheet", sheet)
    assert done.exit_code == 0, done.output
    found = figures(out)
    require_in_card(card, found, str(postcards))
    assert list(found) == ["text-to-image", "image-variation"]
    for flow in found.values():
        assert list(flow) == ["CLIP-FID", "CMMD", "CLIP score"]
        assert all(one["low"] <= one["value"] <= one["high"] for one in flow.values())
    assert found["image-variation"]["CLIP score"]["value"] > 60  # of two images, where any two agree somewhat
    protocol = json.loads(out.read_text())["flows"]["text-to-image"]["protocol"]
    assert protocol["steps"] == "2" and protocol["scheduler"] == "DDIMScheduler" and "made at 64×64" in protocol["size"]
    assert protocol["guidance scale"] and "FID was left out" in done.stderr and "torchmetrics" in done.stdout
    assert Image.open(sheet).width > 500
    # what others made is found by its key, and measured alike
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for line in map(json.loads, (kept / "samples.jsonl").read_text().splitlines()):
        shutil.copy(kept / "text-to-image" / f"{line['number']:06}.png", theirs / f"{line['key']}.png")
    measure = ("images", "--data", postcards, *QUICK, "--made", theirs, "--flows", "text-to-image")
    again = vd(*measure, "--output", tmp_path / "x", "--json", tmp_path / "x.json")
    assert again.exit_code == 0, again.output
    assert figures(tmp_path / "x.json")["text-to-image"] == found["text-to-image"]
    (theirs / "card-3.png").unlink()
    lacking = vd(
        "images", "--data", postcards, *QUICK, "--made", theirs, "--flows", "text-to-image", "--output", tmp_path / "x"
    )
    assert (
        lacking.exit_code == 1
        and "lacks what was made of 1 of 6 samples" in lacking.stderr
        and "card-3" in lacking.stderr
    )


def test_texts_of_the_bundled_model(postcards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    words = ("texts", "postcards", "--data", postcards, *QUICK, "--output", tmp_path / "kept")
    done = vd(*words, "--json", out, "--sheet", tmp_path / "sheet.png")
    assert done.exit_code == 0, done.output
    found = figures(out)
    assert list(found) == ["image-to-text", "text-variation"]
    names = ["CIDEr-D", "BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CLIP score"]
    assert all(list(flow) == names for flow in found.values())
    assert "tokens" in json.loads(out.read_text())["flows"]["image-to-text"]["protocol"]
    lines = [json.loads(line) for line in (tmp_path / "kept" / "samples.jsonl").read_text().splitlines()]
    theirs = tmp_path / "theirs.jsonl"  # of one who copies what people wrote
    theirs.write_text("\n".join(json.dumps({"number": line["number"], "text": line["caption"]}) for line in lines))
    measure = ("texts", "--data", postcards, *QUICK, "--made", theirs, "--flows", "image-to-text")
    perfect = vd(*measure, "--output", tmp_path / "x", "--json", tmp_path / "x.json")
    assert perfect.exit_code == 0, perfect.output
    best = figures(tmp_path / "x.json")["image-to-text"]
    assert [best[name]["value"] for name in ("CIDEr-D", "BLEU-4", "ROUGE-L")] == pytest.approx([10, 1, 1])


def test_a_run_that_was_killed_goes_on_and_ends_as_one_that_was_not(model: Path, data: str, tmp_path: Path) -> None:
    flow = ("--flows", "text-to-image", "--batch-size", 2)
    words = ("images", model, "--data", data, *QUICK, *flow, "--only", "make", "--output")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    killed = processes.start(deadly_vd, 8, "evaluate", *map(str, words), str(cut))
    assert killed.returncode == -9, killed.stderr
    assert 0 < len(content(cut)) < 9
    assert vd(*words, cut).exit_code == 0 and vd(*words, whole).exit_code == 0
    assert content(cut) == content(whole) and len(content(whole)) == 9


def test_two_processes_share_the_work_and_one_measures(model: Path, data: str, tmp_path: Path) -> None:
    words = ("texts", model, "--data", data, *QUICK, "--num", 8, "--batch-size", 2, "--flows", "image-to-text")
    where = ("--output", str(tmp_path / "two"), "--json", str(tmp_path / "two.json"))
    two = processes.together(processes.vd, "evaluate", *map(str, words), *where)
    assert [each.returncode for each in two] == [0, 0], two[0].stderr + two[1].stderr
    done = vd(*words, "--output", tmp_path / "one", "--json", tmp_path / "one.json")
    assert done.exit_code == 0, done.output
    assert content(tmp_path / "two") == content(tmp_path / "one")
    assert figures(tmp_path / "two.json") == figures(tmp_path / "one.json")
    assert [bool(each.stdout) for each in two] == [True, False]


def test_making_and_measuring_are_done_apart(model: Path, data: str, tmp_path: Path) -> None:
    where = ("--num", 4, "--flows", "text-variation", "--output", tmp_path / "kept")
    words = ("texts", model, "--data", data, *QUICK, *where)
    listed = vd(*words, "--only", "list")
    assert listed.exit_code == 0 and "4 samples chosen" in listed.stderr, listed.output
    early = vd(*words, "--only", "measure")
    assert early.exit_code == 1 and "4 of 4 outputs are not made yet" in early.stderr
    assert vd(*words, "--only", "make").exit_code == 0
    measured = vd(*words, "--only", "measure", "--json", tmp_path / "out.json")
    assert measured.exit_code == 0 and list(figures(tmp_path / "out.json")) == ["text-variation"], measured.output
    other = vd("texts", model, "--data", data, "--steps", 3, *QUICK[2:], *where)
    assert other.exit_code == 1 and "were made otherwise: steps was 2" in other.stderr


def test_pictures_without_captions_are_measured_by_their_variations_alone(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, size in enumerate([(40, 40), (60, 30), (30, 50), (64, 64)]):
        drawn_data.picture(number, size).save(folder / f"{number}.png")
    words = (model, "--data", folder, *QUICK)
    asked = vd("images", *words, "--flows", "text-to-image", "--output", tmp_path / "a")
    assert asked.exit_code == 1 and "has 0 samples with image and text" in asked.stderr
    done = vd("images", *words, "--output", tmp_path / "b", "--json", tmp_path / "b.json")
    assert done.exit_code == 0 and "has no captions, so that text-to-image cannot be measured" in done.stderr, (
        done.output
    )
    assert list(figures(tmp_path / "b.json")) == ["image-variation"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--num", "99"), "Give --num 9 or less"),
        (("--data", "nowhere"), "There is no data set nowhere"),
        (("--flows", "image-to-text"), "only text-to-image and image-variation"),
        (("--flows", "nonsense"), "is not a flow"),
        (("--clip", "no/such-clip"), "no/such-clip cannot be opened as a CLIP"),
        (("--made", "nowhere", "--flows", "text-to-image"), "There is no folder nowhere"),
        (("--made", "nowhere"), "does not say of which flow it is"),
        (("--made", "nowhere", "--only", "make"), "leave one of them out"),
        (("--inception", "none.pth", "--only", "measure"), "not made yet"),
        (("--num", "1"), "--num"),
    ],
)
def test_what_cannot_be_is_told(words: tuple[str, ...], message: str, model: Path, data: str, tmp_path: Path) -> None:
    given = () if "--data" in words else ("--data", data)
    made = tmp_path / "made"
    if "--clip" in words:  # which is opened when there is something to measure
        for flow in ("text-to-image", "image-variation"):
            (made / flow).mkdir(parents=True)
            for number in range(9):
                drawn_data.picture(number).save(made / flow / f"{number}.png")
        given += ("--made", str(made))
    done = vd("images", model, *given, *QUICK, "--output", tmp_path / "kept", *words)
    assert done.exit_code in (1, 2) and message in " ".join(done.output.split()), done.output
    assert "Traceback" not in done.output


def test_a_model_that_makes_no_numbers_is_told(model: Path, data: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    (file,) = (broken / "diffuser").glob("*.safetensors")
    weights = load_file(file)
    save_file({name: torch.full_like(value, torch.nan) for name, value in weights.items()}, file)
    done = vd(
        "images", broken, "--data", data, "--num", 2, "--flows", "text-to-image", *QUICK, "--output", tmp_path / "kept"
    )
    assert done.exit_code == 1 and "makes NaN of sample 0" in done.stderr and "--dtype fp32" in done.stderr
    assert not content(tmp_path / "kept" / "text-to-image")
