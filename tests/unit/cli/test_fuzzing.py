"""Whatever file or word a command is given, it works, or says what is wrong on less than a screen."""

import os
import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from tests.mutations import LONGEST, array_files, image_files, mutated, text_files
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.cli import app, batch_job, demo, embed, job, reconstruct, replay, train
from versatile_diffusion.cli.options import ModelOptions

pytestmark = pytest.mark.filterwarnings("ignore")

COMMANDS: dict[str, list[str]] = {
    "image": ["image-variation", "FILE"],
    "edit": ["edit", "FILE", "--add", "tent"],
    "context": ["generate", "image", "--image", "FILE:0.5", "--text", "a tent"],
    "mask": ["generate", "image", "--image", "whole.png", "--mask", "FILE"],
    "embedding": ["generate", "text", "--embedding", "image=FILE", "--unconditional", "FILE"],
    "latents": ["generate", "image", "--text", "a tent", "--latents", "FILE"],
    "start": ["generate", "image", "--text", "a tent", "--start", "FILE", "--strength", "0.5"],
    "colors": ["text-to-image", "a tent", "--colors-of", "FILE"],
    "batch": ["batch", "FILE", "-o", "made"],
    "embed": ["embed", "folder", "-o", "made.safetensors"],
    "embed, texts": ["embed", "FILE", "--modality", "text", "-o", "made.safetensors"],
    "reconstruct": ["reconstruct", "FILE", "-o", "made"],
    "replay": ["replay", "FILE"],
    "replay, input": ["replay", "recorded.png", "--input", "FILE"],
    "train": ["train", "postcards", "--config", "FILE", "--run", "run"],
}
MUTATIONS = 2000


class Opened(Exception):
    """The model was opened: all that was given could be read."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def opened(*_: Any, **__: Any) -> None:
        raise Opened

    for module in (job, batch_job, demo, reconstruct, replay):
        monkeypatch.setattr(module, "open_pipeline", opened)
    monkeypatch.setattr(embed, "_open", opened)
    monkeypatch.setattr("versatile_diffusion.cli.batch_on_ray.make_on_ray", opened)
    monkeypatch.setattr(train, "_move_aside", opened)
    monkeypatch.setattr("versatile_diffusion.worlds.postcards.world.PostcardsWorld.train", opened)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    monkeypatch.setattr("typer.testing._get_command", cache(typer.main.get_command))  # or each run builds it anew
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Image.new("RGB", (9, 12), "teal").save("whole.png")
    return tmp_path


@pytest.fixture(scope="module")
def recorded(session_pipe: VersatileDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A picture with its recipe."""
    from versatile_diffusion.cli.opening import records_of
    from versatile_diffusion.provenance.output_files import write_output

    made = session_pipe.text_to_image("a tent", num_inference_steps=1, seeds=(3,))
    (record,) = records_of(session_pipe, made.origins, ModelOptions())
    file = tmp_path_factory.mktemp("recorded") / "recorded.png"
    write_output(file, "image", made.images[0], {"command": "text-to-image"}, record)
    return file.read_bytes()


def run(*arguments: str) -> Result:
    """Runs a command in this process, where what is no error of a user's is raised."""
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit | Opened):
        raise result.exception
    assert "Traceback" not in result.output
    assert len(result.stderr) < LONGEST and result.stderr.count("\n") < 30, result.stderr[:500]
    return result


def test_damaged_files_of_every_suffix(recorded: bytes) -> None:
    Path("recorded.png").write_bytes(recorded)
    files = image_files() | array_files() | text_files()
    files["-recorded.png"] = recorded
    suited = {
        "batch": text_files(), "embed, texts": text_files(), "train": {".yaml": text_files()[".yaml"]},
        "embedding": array_files(), "latents": array_files(), "reconstruct": array_files(),
        "replay": {".png": recorded, ".json": text_files()[".json"]},
    }  # fmt: skip
    draw, opened = random.Random(4), dict.fromkeys(COMMANDS, 0)
    for number in range(MUTATIONS):
        name = list(COMMANDS)[number % len(COMMANDS)]
        some = suited.get(name, files) if draw.random() < 0.8 else files
        suffix = draw.choice(sorted(some))
        file = Path("folder", f"given{suffix}")
        file.write_bytes(mutated(some[suffix], draw) if draw.random() < 0.9 else some[suffix])
        result = run(*(argument.replace("FILE", str(file)) for argument in COMMANDS[name]))
        if isinstance(result.exception, Opened):
            opened[name] += 1
        elif result.exit_code and name != "train":  # whose settings are named, and not their file
            assert "given" in result.stderr.replace("\n", "") or "folder" in result.stderr, result.stderr
        file.unlink()
    assert min(opened.values()) > 2, opened


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    "kind", ["empty.png", "empty.npz", "empty.jsonl", "folder", "pipe.png", "nowhere.png", "A" * 5000]
)
def test_what_is_no_file(name: str, kind: str, tmp_path: Path) -> None:
    if kind.startswith("empty"):
        Path(kind).touch()
    if kind == "pipe.png":
        os.mkfifo(kind)
    Image.new("RGB", (9, 12)).save("recorded.png")
    result = run(*(argument.replace("FILE", kind) for argument in COMMANDS[name]))
    assert isinstance(result.exception, Opened) or result.exit_code in (1, 2)


ODD_WORDS = (
    *(
        "",
        "-1",
        "nan",
        "inf",
        "1e400",
        "0",
        "2",
        "20",
        "20.0",
        "true",
        "ten",
        "18446744073709551615",
        "9" * 5000,
        "a=b",
    ),
    *(
        "x" * 100_000,
        "\udcff",
        "data:image/png;base64,AAAA",
        "data:,x",
        "image=",
        "=",
        ":",
        ":0.5",
        "0.2,0.8",
        "0.8,0.2",
    ),
)
MAKING = (
    *("text-to-image", "image-to-text", "image-variation", "text-variation", "generate", "blend", "edit", "batch"),
    *("embed", "reconstruct", "replay", "demo"),
)


def test_odd_words() -> None:
    """Every option of the commands that make something, with words that it does not expect."""
    root: Any = typer.main.get_command(app)
    draw = random.Random(5)
    for name in MAKING:
        first = {"generate": "image", "batch": "list.txt", "embed": "folder", "reconstruct": "scans.npz"}.get(
            name, "whole.png"
        )
        Path("list.txt").write_text("a tent\n")
        Path("scans.npz").write_bytes(array_files()[".npz"])
        options = [
            each.opts[0]
            for each in root.get_command(None, name).params
            if each.opts[0].startswith("--") and not each.is_flag
        ]
        for option in options:
            for word in draw.sample(ODD_WORDS, 4):
                arguments = [
                    name,
                    *([] if name in ("blend", "demo") else [first]),
                    "--output",
                    "made.safetensors",
                    option,
                    word,
                ]
                run(*arguments)
