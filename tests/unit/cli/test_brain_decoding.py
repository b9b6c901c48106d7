import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor
from typer.testing import CliRunner, Result

from tests.processes import start
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app, embed, reconstruct
from versatile_diffusion.modalities.image_spec import ImageCodec

from .killed_command import deadly_vd

SCANS = 3
IMAGE = torch.randn(SCANS, 5, 24, generator=Generator().manual_seed(0))
TEXT = torch.randn(SCANS, 16, 24, generator=Generator().manual_seed(1))
START = torch.randn(SCANS, 4, 16, 16, generator=Generator().manual_seed(2))
EXACT = ["--device", "cpu", "--dtype", "fp32"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(**arrays: Tensor) -> Path:
    path = Path("embeddings.npz")
    np.savez(path, **{name: array.numpy() for name, array in arrays.items()})  # pyright: ignore[reportArgumentType]
    return path


def vd(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def killed(survived: int, *arguments: object) -> None:
    """A command, killed before it finishes writing once more than so many times."""
    ran = start(deadly_vd, survived, *map(str, arguments))
    assert ran.returncode == -signal.SIGKILL, ran.stderr


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).glob("[!.]*")}


# ---- vd reconstruct ----


def test_pictures_are_named_by_scan_and_seed_and_equal_the_pipelines(model: Path) -> None:
    recipe = ["--steps", 2, "--guidance-scale", 3, "--image-weight", 0.6, "--unconditional", "zeros", "-n", 2]
    file = saved(image=IMAGE, text=TEXT)
    result = vd("reconstruct", file, "--output", "made", "--model", model, *recipe, "--seed", 7, *EXACT)
    assert result.exit_code == 0, result.output
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    expected = pipe.reconstruct(
        IMAGE, TEXT, 0.6, num_outputs=2, seed=7, num_inference_steps=2, guidance_scale=3.0,
        image_unconditional="zeros", text_unconditional="zeros",
    )  # fmt: skip
    names = [[f"scan-000{scan}-seed-{seed}.png" for seed in (7, 8)] for scan in range(SCANS)]
    assert sorted(contents("made")) == [*(name for row in names for name in row), "settings.json"]
    for row, pictures in zip(names, expected.images, strict=True):
        for name, picture in zip(row, pictures, strict=True):
            made = np.asarray(Image.open(Path("made", name))).astype(int)
            assert np.abs(made - np.asarray(picture)).max() <= 1


def test_a_picture_tells_how_it_was_made(model: Path) -> None:
    file = Path("predicted.safetensors")
    save_file({"image": IMAGE, "start": START}, file)
    options = ["--scheduler", "unipc", "--steps", 4, "--strength", 0.5, "--rank-by", "tokens", "-n", 1]
    result = vd("reconstruct", file, "-o", "made", "--model", model, *options, *EXACT)
    assert result.exit_code == 0, result.output
    told = Image.open("made/scan-0002-seed-0.png").info
    assert -1 <= float(told.pop("score")) <= 1
    assert {"version", "model", "request"} <= told.keys()
    assert {key: told[key] for key in told if key not in ("version", "model", "request")} == {
        "scan": "2", "seed": "0", "command": "reconstruct", "embeddings": "predicted.safetensors", "steps": "4",
        "guidance_scale": "7.5", "image_weight": "0.5", "strength": "0.5", "scheduler": "unipc",
        "unconditional": "default", "rank_by": "tokens",
    }  # fmt: skip


def test_the_ranking_lists_the_pictures_of_each_scan_from_the_most_similar(model: Path) -> None:
    options = ["--rank-by", "image", "-n", 3, "--steps", 1, "--model", model, *EXACT]
    assert vd("reconstruct", saved(image=IMAGE), "-o", "made", *options).exit_code == 0
    ranking = json.loads(Path("made/ranking.json").read_text())
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    expected = pipe.reconstruct(IMAGE, num_outputs=3, seed=0, num_inference_steps=1, rank_by="image")
    assert list(ranking) == ["0", "1", "2"] and expected.scores is not None
    for scan in range(SCANS):
        made, scores = ranking[str(scan)], expected.scores[scan]
        assert [one["score"] for one in made] == pytest.approx(scores, abs=1e-3)
        assert all(one["file"] == f"scan-000{scan}-seed-{one['seed']}.png" for one in made)
        assert [one["score"] for one in made] == sorted((one["score"] for one in made), reverse=True)


@pytest.mark.slow
def test_a_rerun_after_a_kill_makes_only_what_is_missing(model: Path) -> None:
    file = saved(image=IMAGE, text=TEXT)
    options = ["--steps", 2, "-n", 2, "--batch-size", 1, "--rank-by", "image", "--model", model, *EXACT]
    assert vd("reconstruct", file, "-o", "whole", *options).exit_code == 0
    killed(4, "reconstruct", file, "-o", "killed", *options)  # settings and three pictures
    before = {path: path.stat().st_mtime_ns for path in Path("killed").glob("[!.]*")}
    assert len(before) == 4
    result = vd("reconstruct", file, "-o", "killed", *options)
    assert result.exit_code == 0 and "3 of 6 pictures made" in result.stderr, result.output
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert contents("killed") == contents("whole")


def test_a_run_that_is_over_opens_no_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["reconstruct", saved(image=IMAGE), "-o", "made", "--steps", 1, "-n", 1, "--model", model, *EXACT]
    assert vd(*command).exit_code == 0
    monkeypatch.setattr(reconstruct, "open_pipeline", None)
    result = vd(*command)
    assert result.exit_code == 0 and "0 of 3 pictures made" in result.stderr


def test_more_pictures_are_added_but_never_others(model: Path) -> None:
    command = ["reconstruct", saved(image=IMAGE), "-o", "made", "--steps", 1, "--model", model, *EXACT]
    assert vd(*command, "-n", 1).exit_code == 0
    assert "3 of 6 pictures made" in vd(*command, "-n", 2).stderr
    before = contents("made")
    result = vd(*command, "-n", 3, "--image-weight", 0.4)
    assert result.exit_code == 1 and "image_weight was 0.5. Choose another --output" in result.stderr
    saved(image=IMAGE + 1)
    result = vd(*command, "-n", 3)
    assert result.exit_code == 1 and "made otherwise: embeddings was" in result.stderr
    assert contents("made") == before


NAN = IMAGE.clone()
NAN[1, 2, 3] = torch.nan


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"image": IMAGE, "brain": IMAGE}, [], "holds brain; expected are image (scans, tokens, width), text"),
        ({"start": START}, ["--strength", 0.5], "holds no embeddings; expected are image"),
        ({"image": IMAGE[0]}, [], "image in embeddings.npz must have shape (scans, tokens, width), got (5, 24)"),
        ({"image": IMAGE.to(torch.complex64)}, [], "image in embeddings.npz must hold numbers, got complex64"),
        ({"image": NAN}, [], "image in embeddings.npz holds values that are NaN or infinite"),
        ({"image": IMAGE, "text": TEXT[:2]}, [], "got image: 3, text: 2"),
        ({"image": IMAGE, "start": START}, [], "say with --strength how much"),
        ({"image": IMAGE}, ["--strength", 0.5], "add an array named start"),
        ({"text": TEXT}, ["--rank-by", "image"], "add an array named image"),
        ({"image": IMAGE[:, :4]}, [], "must have shape (5, 24) or (scans, 5, 24), got"),
        ({"image": IMAGE, "start": START[:, :3]}, ["--strength", 0.5], "got (3, 3, 16, 16)"),
    ],
)
def test_embeddings_that_do_not_fit(model: Path, arrays: dict[str, Tensor], options: list[Any], message: str) -> None:
    result = vd("reconstruct", saved(**arrays), "-o", "made", "--model", model, "--steps", 1, *options, *EXACT)
    assert result.exit_code == 1
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not list(Path().glob("made/*.png"))


@pytest.mark.parametrize("dtype", [">f8", "<i2", ">i4", "longdouble"])
def test_embeddings_of_any_numbers_mean_the_same(model: Path, dtype: str) -> None:
    image = (8 * IMAGE[:1]).round()
    command = ["--steps", 1, "-n", 1, "--model", model, *EXACT]
    assert vd("reconstruct", saved(image=image), "-o", "made", *command).exit_code == 0
    np.savez("other.npz", image=np.asfortranarray(image.numpy().astype(dtype)))
    assert vd("reconstruct", "other.npz", "-o", "others", *command).exit_code == 0
    [one], [other] = (list(Path(folder).glob("*.png")) for folder in ("made", "others"))
    assert (np.asarray(Image.open(one)) == np.asarray(Image.open(other))).all()


def test_corrected_embeddings_are_taken_where_nothing_was_made(model: Path) -> None:
    command = ["reconstruct", "embeddings.npz", "-o", "made", "--steps", 1, "-n", 1, "--model", model, *EXACT]
    saved(image=IMAGE[:, :4])
    assert vd(*command).exit_code == 1
    saved(image=IMAGE)
    result = vd(*command)
    assert result.exit_code == 0, result.output
    assert len(list(Path("made").glob("*.png"))) == SCANS


def test_pickles_and_other_files_are_refused() -> None:
    np.savez("pickled.npz", image=np.array([{"a": 1}]))
    Path("broken.npz").write_bytes(b"nothing")
    Path("broken.safetensors").write_bytes(b"nothing")
    Path("embeddings.csv").touch()
    for name in ("pickled.npz", "broken.npz", "broken.safetensors"):
        result = vd("reconstruct", name, "-o", "made")
        assert result.exit_code == 1 and f"Cannot read arrays from {name}" in result.stderr
    assert "in a .npz or .safetensors file" in vd("reconstruct", "embeddings.csv", "-o", "made").stderr


# ---- vd embed ----


@pytest.fixture
def folder(empty_folder: Path) -> Path:
    """Five pictures of several sizes, one of them in a folder below, and something else."""
    folder = empty_folder / "pictures"
    (folder / "more").mkdir(parents=True)
    for i, name in enumerate(("b.png", "a.JPG", "c.webp", "more/d.png", "e.bmp")):
        Image.linear_gradient("L").rotate(30 * i).resize((30 + i, 40)).convert("RGB").save(folder / name)
    (folder / "notes.txt").write_text("not a picture")
    return folder


NAMES = ["a.JPG", "b.png", "c.webp", "e.bmp", "more/d.png"]


def test_pictures_of_a_folder_are_embedded_in_the_order_of_their_names(model: Path, folder: Path) -> None:
    result = vd("embed", folder, "--modality", "image", "-o", "x.safetensors", "--model", model, "--batch-size", 2)
    assert result.exit_code == 0, result.output
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    made = load_file("x.safetensors")
    assert list(made) == ["image"] and made["image"].dtype == torch.float32
    expected = pipe.encode_context("image", [folder / name for name in NAMES])
    torch.testing.assert_close(made["image"], expected, rtol=1e-5, atol=1e-6)
    with safe_open("x.safetensors", "pt") as file:
        assert json.loads(file.metadata()["names"]) == NAMES
    assert not list(Path().glob("*.unfinished"))


def test_lines_of_a_file_are_embedded(model: Path) -> None:
    lines = ["a red tent", "", "a blue lighthouse by the sea"]
    Path("texts.txt").write_text("\n".join(lines) + "\n")
    options = ["--modality", "text", "-o", "x.safetensors", "--model", model, "--store", "fp16"]
    result = vd("embed", "texts.txt", *options)
    assert result.exit_code == 0, result.output
    expected = VersatileDiffusionPipeline.from_pretrained(model).encode_context("text", lines)
    made = load_file("x.safetensors")["text"]
    assert made.dtype == torch.float16
    torch.testing.assert_close(made.float(), expected, rtol=1e-2, atol=1e-3)


def test_embeddings_are_what_reconstruct_reads(model: Path, folder: Path) -> None:
    assert vd("embed", folder, "-o", "x.safetensors", "--model", model).exit_code == 0
    result = vd("reconstruct", "x.safetensors", "-o", "made", "-n", 1, "--steps", 1, "--model", model)
    assert result.exit_code == 0, result.output
    assert len(list(Path("made").glob("*.png"))) == len(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize("torn", [0, 100])
def test_embedding_goes_on_after_a_kill(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, torn: int) -> None:
    command = ["embed", folder, "--model", model, "--batch-size", 2]
    assert vd(*command, "-o", "whole.safetensors").exit_code == 0
    killed(1, *command, "-o", "killed.safetensors")
    unfinished = Path("killed.safetensors.unfinished")
    assert not Path("killed.safetensors").exists()
    os.truncate(unfinished, unfinished.stat().st_size - torn)
    read: list[str] = []
    whole = ImageCodec.read

    def recorded(self: ImageCodec, file: Path) -> torch.Tensor:
        read.append(file.name)
        return whole(self, file)

    monkeypatch.setattr(ImageCodec, "read", recorded)
    result = vd(*command, "-o", "killed.safetensors")
    assert result.exit_code == 0, result.output
    assert read == ["a.JPG", *(["c.webp", "e.bmp"] if torn else []), "d.png"]  # the first one shows the shape
    assert Path("killed.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
    assert not unfinished.exists()


def test_what_was_begun_with_other_data_is_not_mixed(model: Path, folder: Path) -> None:
    Path("x.safetensors.unfinished").write_bytes(b"something else")
    result = vd("embed", folder, "-o", "x.safetensors", "--model", model)
    assert result.exit_code == 1 and "was begun with other data or settings" in result.stderr
    assert Path("x.safetensors.unfinished").read_bytes() == b"something else"


def test_a_kill_within_the_header_loses_nothing(model: Path, folder: Path) -> None:
    assert vd("embed", folder, "-o", "x.safetensors", "--model", model).exit_code == 0
    whole = Path("x.safetensors").read_bytes()
    Path("x.safetensors").unlink()
    Path("x.safetensors.unfinished").write_bytes(whole[:20])
    assert vd("embed", folder, "-o", "x.safetensors", "--model", model).exit_code == 0
    assert Path("x.safetensors").read_bytes() == whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["empty", "-o", "x.safetensors"], "empty holds no files that can be read, such as .png"),
        (["text.txt", "-o", "x.safetensors"], "text.txt is not a folder"),
        (["empty", "--modality", "text", "-o", "x.safetensors"], "empty is a folder"),
        (["nothing.txt", "--modality", "text", "-o", "x.safetensors"], "nothing.txt is empty"),
        (["binary.txt", "--modality", "text", "-o", "x.safetensors"], "not a text in UTF-8"),
        (["empty", "-o", "x.npz"], "end in .safetensors"),
        (["text.txt", "--modality", "text", "-o", "there.safetensors"], "there.safetensors exists"),
    ],
)
def test_sources_that_cannot_be_embedded(arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embed, "_open", None)
    Path("empty").mkdir()
    Path("nothing.txt").touch()
    Path("text.txt").write_text("a text")
    Path("binary.txt").write_bytes(b"\xff\xfe\xff")
    Path("there.safetensors").touch()
    result = vd("embed", *arguments)
    assert result.exit_code == 1 and message in result.stderr


def test_a_picture_that_cannot_be_read_is_named(model: Path, folder: Path) -> None:
    (folder / "z.png").write_text("not a picture")
    (folder / "zero.JPG").touch()
    result = vd("embed", folder, "-o", "x.safetensors", "--model", model, "--batch-size", 2)
    assert result.exit_code == 0 and "Left out, since they cannot be read: notes.txt, z.png, zero.JPG." in result.stderr
    with safe_open("x.safetensors", "pt") as opened:
        assert json.loads(opened.metadata()["names"]) == ["a.JPG", "b.png", "c.webp", "e.bmp", "more/d.png"]


def test_integers_and_other_byte_orders_are_embeddings(model: Path) -> None:
    np.savez("scans.npz", image=IMAGE.long().numpy().astype(">i4"))
    made = vd("reconstruct", "scans.npz", "-o", "made", "-n", 1, "--model", model, "--steps", 1, "--device", "cpu")
    assert made.exit_code == 0 and "3 of 3 pictures made" in made.stderr, made.output
