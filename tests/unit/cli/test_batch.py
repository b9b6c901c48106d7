import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.conftest import CAPTIONS
from tests.processes import start_vd, together
from tests.processes import vd as vd_process
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.applications.prompt_lists import Prompt, batches, make, read_prompts
from versatile_diffusion.cli import app, batch_job
from versatile_diffusion.cli.batch_job import BatchOptions, How, ListJob
from versatile_diffusion.cli.batch_on_ray import BatchActor
from versatile_diffusion.cli.options import Dtype
from versatile_diffusion.files import read_lines
from versatile_diffusion.modalities.spec import DecodingOptions
from versatile_diffusion.sampling.options import Sampling

from . import killed_worker

ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[3]), *sys.path]),
}
# Without --multi_gpu accelerate starts one process; without a GPU its processes take the CPU.
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
EXACT = ["--device", "cpu", "--dtype", "fp32", "--steps", 2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, picture: Image.Image) -> Path:
    """Lists of prompts: one of texts, with a blank line, and one of texts, pictures and both."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("\n".join([*CAPTIONS[:2], "", *CAPTIONS[2:]]) + "\n")
    Path("given").mkdir()
    picture.save("given/a.png")
    entries = [
        {"text": CAPTIONS[0], "seed": 5},
        {"image": "a.png"},
        {"text": CAPTIONS[1], "image": "a.png"},
        {"text": CAPTIONS[2]},
        {"image": "a.png", "seed": 9},
    ]
    Path("given/mixed.jsonl").write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    return tmp_path


def vd(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["batch", *map(str, arguments)])


def launched(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*LAUNCH, "--main_process_port=0", *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)


def contents(name: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(name).glob("[!.]*")}


def pixels(file: str) -> np.ndarray:
    return np.asarray(Image.open(file)).astype(int)


# ---- lists ----


def test_a_list_of_texts_keeps_its_line_numbers() -> None:
    assert [(prompt.line, prompt.text) for prompt in read_prompts(Path("prompts.txt"))] == [
        (1, CAPTIONS[0]), (2, CAPTIONS[1]), (4, CAPTIONS[2]), (5, CAPTIONS[3]),
    ]  # fmt: skip


def test_only_line_breaks_part_lines() -> None:
    Path("windows.txt").write_bytes("\ufeffa tent\u2028a tree\r\n\r\na house\f\n".encode())
    texts = ["a tent\u2028a tree", "", "a house\f"]
    assert read_lines(Path("windows.txt")) == texts
    assert [(prompt.line, prompt.text) for prompt in read_prompts(Path("windows.txt"))] == [
        (1, texts[0]),
        (3, "a house"),
    ]


def test_a_list_of_objects_names_pictures_from_its_own_folder() -> None:
    read = read_prompts(Path("given/mixed.jsonl"))
    assert read[0] == Prompt(1, CAPTIONS[0], None, 5) and read[1] == Prompt(2, None, Path("given/a.png"), None)
    assert [prompt.contexts for prompt in read[:3]] == [("text",), ("image",), ("text", "image")]


@pytest.mark.parametrize("size", [1, 2, 5])
def test_every_output_is_in_one_batch_and_more_outputs_change_no_batch(size: int) -> None:
    read = read_prompts(Path("given/mixed.jsonl"))
    planned = batches(read, 2, 3, size)
    outputs = [(one.prompt.line, one.seed) for each in planned for one in each]
    assert sorted(outputs) == [(1, 5), (1, 6), (2, 3), (2, 4), (3, 3), (3, 4), (4, 3), (4, 4), (5, 9), (5, 10)]
    assert all(len(each) <= size and len({one.prompt.contexts for one in each}) == 1 for each in planned)
    more = batches(read, 3, 3, size)
    assert more[: len(planned)] == planned


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a red tent", "line 2: this is not JSON"),
        ('["a red tent"]', "line 2: an object with the keys text, image, sound, seed is expected"),
        ('{"prompt": "a red tent"}', "line 2: an object with the keys text, image, sound, seed is expected"),
        ('{"seed": 3}', "line 2: there is neither a text nor an image"),
        ('{"text": 3}', "line 2: text must be a string"),
        ('{"text": "a", "seed": -1}', "line 2: the seed must be an integer from 0 to 9223372036854775807, got -1"),
        ('{"text": "a", "seed": true}', "line 2: the seed must be an integer from 0 to 9223372036854775807, got True"),
        ('{"text": "a", "seed": 9223372036854775808}', "line 2: the seed must be an integer from 0 to"),
        ('{"image": "b.png"}', "line 2: there is no file b.png"),
        ('{"image": "cut.png"}', "line 2: Cannot read a picture from cut.png"),
        ('{"image": "prompts.txt"}', "line 2: Cannot read a picture from prompts.txt"),
    ],
)
def test_bad_lines_are_named(line: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_job, "open_pipeline", None)
    Path("cut.png").write_bytes(Path("given/a.png").read_bytes()[:-30])
    Path("bad.jsonl").write_text('{"text": "a"}\n' + line + "\n")
    result = vd("bad.jsonl", "-o", "made")
    assert result.exit_code == 1 and message in result.stderr
    assert not Path("made").exists()


@pytest.mark.parametrize(("content", "message"), [(b"\n \n", "holds no prompts"), (b"\xff\xfe\xff", "not a text in")])
def test_files_that_are_no_lists_are_refused(content: bytes, message: str) -> None:
    Path("bad.txt").write_bytes(content)
    result = vd("bad.txt", "-o", "made")
    assert result.exit_code == 1 and message in result.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.NDJSON", '{"text": "a tent"}\n{"text": "a tree"}\n'),
        ("p.json", '[{"text": "a tent"}, "a tree"]'),
        ("p.json", '[\n  {"text": "a tent"},\n  {"text": "a tree"}\n]\n'),
        ("p.JSON", '{"text": "a tent"}\n{"text": "a tree"}\n'),
        ("p.TXT", "a tent\na tree\n"),
    ],
)
def test_lists_come_in_several_forms_and_their_suffixes_in_any_case(name: str, content: str) -> None:
    Path(name).write_text(content)
    assert [(prompt.line, prompt.text) for prompt in read_prompts(Path(name))] == [(1, "a tent"), (2, "a tree")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.csv", "prompt,seed\na tent,1\n", "p.csv is no list of texts"),
        ("p.YAML", "a: tent\n", "p.YAML is no list of texts"),
        ("p.txt", "a\0 \0t\0", "it holds zeros. Save it as UTF-8"),
        ("p.jsonl", '{"seed": ' + "9" * 5000 + "}", "line 1: this is not JSON"),
        ("p.jsonl", '{"image": "' + "a" * 5000 + '.png"}', "line 1: [Errno 36] File name too long"),
        ("p.txt", '{"text": "a tent"}\n', "line 1: this is a JSON object: call the file .jsonl"),
        ("p.json", "[5]", "entry 1: an object with the keys"),
        ("p.jsonl", '{"text": "a"}\n{"text": "\\ud83d tent"}\n', "line 2: text holds half a character at 1"),
        ("p.json", '[{"text": "a"}, {"image": "\\udc00.png"}]', "entry 2: image holds half a character"),
    ],
)
def test_what_is_no_list_is_refused_before_the_model_is_opened(
    name: str, content: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_job, "open_pipeline", None)
    Path(name).write_text(content)
    result = vd(name, "-o", "made")
    assert result.exit_code == 1 and message in result.stderr and "Traceback" not in result.output


# ---- outputs ----


def test_outputs_depend_on_their_prompt_and_seed_alone(model: Path) -> None:
    recipe = ["--model", model, "--guidance-scale", 3, "--image-weight", 0.3, *EXACT]
    for size in (1, 3):
        result = vd("given/mixed.jsonl", "-o", f"by-{size}", "--batch-size", size, "--seed", 7, *recipe)
        assert result.exit_code == 0 and "5 of 5 outputs made" in result.stderr, result.output
    names = [f"line-000{line}-seed-{seed}.png" for line, seed in ((1, 5), (2, 7), (3, 7), (4, 7), (5, 9))]
    assert sorted(contents("by-1")) == sorted(contents("by-3")) == [*names, "settings.json"]
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    planned = batches(read_prompts(Path("given/mixed.jsonl")), 1, 7, 1)
    in_order = sorted((wanted for [wanted] in planned), key=lambda wanted: wanted.prompt.line)
    for name, wanted in zip(names, in_order, strict=True):
        alone = make(pipe, "image", [wanted], 0.3, num_inference_steps=2, guidance_scale=3.0).images[0]
        for folder in ("by-1", "by-3"):  # batches of other sizes round otherwise
            assert np.abs(pixels(f"{folder}/{name}") - np.asarray(alone)).max() <= 1
    different = [pixels(f"by-1/{name}") for name in names]
    assert all((one != other).any() for i, one in enumerate(different) for other in different[:i])


def test_a_picture_tells_how_it_was_made(model: Path) -> None:
    options = ["--scheduler", "unipc", "--height", 16, "--model", model, *EXACT]
    assert vd("given/mixed.jsonl", "-o", "made", *options).exit_code == 0
    picture = Image.open("made/line-0003-seed-0.png")
    assert picture.size == (32, 16)
    told = {key: value for key, value in picture.info.items() if key not in ("model", "version", "request")}
    assert told == {
        "command": "batch", "line": "3", "prompt": CAPTIONS[1], "image": "a.png", "image_weight": "0.5", "seed": "0",
        "steps": "2", "guidance_scale": "7.5", "scheduler": "unipc", "height": "16",
    }  # fmt: skip


def test_texts_are_written_as_files(model: Path) -> None:
    result = vd("given/mixed.jsonl", "-o", "made", "--to", "text", "-n", 2, "--model", model, *EXACT)
    assert result.exit_code == 0, result.output
    assert len(contents("made")) == 11
    assert Path("made/line-0002-seed-1.txt").read_text().endswith("\n")


def test_a_rerun_makes_only_what_is_missing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["prompts.txt", "-o", "made", "--batch-size", 3, "--model", model, *EXACT]
    assert vd(*command).exit_code == 0
    whole = contents("made")
    Path("made/line-0002-seed-0.png").unlink()
    times = {path: path.stat().st_mtime_ns for path in Path("made").glob("line-*")}
    result = vd(*command)
    assert "1 of 4 outputs made" in result.stderr
    assert contents("made") == whole
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert "4 of 8 outputs made" in vd(*command, "-n", 2).stderr
    monkeypatch.setattr(batch_job, "open_pipeline", None)
    assert "0 of 8 outputs made" in vd(*command, "-n", 2).stderr


def test_a_folder_of_another_list_or_other_settings_is_refused(model: Path) -> None:
    command = ["-o", "made", "--model", model, *EXACT]
    assert vd("prompts.txt", *command).exit_code == 0
    before = contents("made")
    for changed in (["--image-weight", 0.4], ["--to", "text"], ["--height", 16]):
        result = vd("prompts.txt", *command, *changed)
        assert result.exit_code == 1 and "made otherwise" in result.stderr and "Choose another" in result.stderr
    Path("prompts.txt").write_text(CAPTIONS[3])
    result = vd("prompts.txt", *command)
    assert result.exit_code == 1 and "made otherwise: prompts was" in result.stderr
    assert contents("made") == before


def test_an_actor_sends_what_the_command_writes_or_what_went_wrong(model: Path) -> None:
    command = ["given/mixed.jsonl", "-o", "made", "--batch-size", 3, "--model", model, *EXACT]
    assert vd(*command).exit_code == 0
    sampling, options = Sampling(num_inference_steps=2), BatchOptions(str(model), "cpu", Dtype.FP32)
    job = ListJob(Path("nowhere"), How(options, sampling, DecodingOptions(), {}), digits=4)
    actor = BatchActor(job, ["image", "text"], str(Path.cwd()))
    planned = batches(read_prompts(Path("given/mixed.jsonl")), 1, 0, 3)
    rows = [row for each in planned for row in actor({"batch": pickle.dumps(each)})]
    sent = {row["name"]: row["content"] for row in rows}
    written = {path.relative_to("made").as_posix(): path.read_bytes() for path in Path("made").rglob("*.png")}
    assert sent == written and sum(row["outputs"] for row in rows) == 5
    assert not Path("nowhere").exists()

    Path("given/a.png").unlink()
    (failed,) = actor({"batch": pickle.dumps(planned[1])})
    assert failed["name"] == "" and failed["outputs"] == 0 and b"a.png" in failed["content"]


# ---- processes ----


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one_even_if_one_is_killed(model: Path) -> None:
    command = ["batch", "given/mixed.jsonl", "-n", 2, "--batch-size", 2, "--model", model, *EXACT]
    alone = start_vd(*command, "-o", "one")
    assert alone.returncode == 0, alone.stderr
    one = contents("one")
    assert len(one) == 11

    killed = launched(killed_worker.__file__, 1, *command, "-o", "two")
    assert killed.returncode != 0 and "Signal 9 (SIGKILL)" in killed.stderr, killed.stderr
    partial = contents("two")
    assert 1 < len(partial) < len(one) and partial.items() <= one.items()
    again = together(vd_process, *map(str, command), "-o", "two")
    for number, process in enumerate(again, start=1):
        assert process.returncode == 0, process.stderr
        assert f"process {number} of 2" in process.stderr
    assert contents("two") == one


@pytest.mark.slow
def test_what_is_wrong_is_said_once_by_two_processes() -> None:
    Path("prompts.txt").write_text("\n")
    first, second = together(vd_process, "batch", "prompts.txt", "-o", "made")
    assert first.returncode != 0 and second.returncode != 0
    assert (first.stderr + second.stderr).count("holds no prompts") == 1
