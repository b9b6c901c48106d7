import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from versatile_diffusion import VersatileDiffusionPipeline, __version__
from versatile_diffusion.cli import app, files, job
from versatile_diffusion.cli.options import weighted
from versatile_diffusion.files import write_whole
from versatile_diffusion.modalities.image_spec import IMAGE

PROMPT = "a red house by the sea"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def file(picture: Image.Image, empty_folder: Path) -> Path:
    path = empty_folder / "given.png"
    picture.save(path)
    return path


@pytest.fixture
def nothing_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the model was opened")

    monkeypatch.setattr(job, "open_pipeline", fail)


def vd(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def make(model: Path, *arguments: object) -> Result:
    return vd(*arguments, "--model", model, "--steps", 2, "--device", "cpu", "--dtype", "fp32")


def pixels(path: Path | str) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_each_prompt_gets_its_pictures_named_by_slug_and_seed(model: Path) -> None:
    result = make(model, "text-to-image", "Two houses, at night!", PROMPT, "-n", 2, "--seed", 5)
    assert result.exit_code == 0, result.output
    names = ["two-houses-at-night-5", "two-houses-at-night-6", "a-red-house-by-the-sea-5", "a-red-house-by-the-sea-6"]
    assert result.stdout.split() == [f"outputs/{name}.png" for name in names]
    assert {pixels(path).shape for path in result.stdout.split()} == {(32, 32, 3)}


def test_a_picture_depends_on_its_own_seed_alone(model: Path) -> None:
    assert make(model, "text-to-image", PROMPT, "-n", 3, "--seed", 5, "-o", "many").exit_code == 0
    assert make(model, "text-to-image", PROMPT, "--seed", 6, "-o", "one.png").exit_code == 0
    at_once, alone = pixels("many/a-red-house-by-the-sea-6.png"), pixels("one.png")
    assert np.abs(at_once.astype(int) - alone).max() <= 1
    assert (pixels("many/a-red-house-by-the-sea-5.png") != alone).any()


def test_a_picture_tells_how_it_was_made(model: Path) -> None:
    make(model, "text-to-image", "a tent – été", "--seed", 7, "--negative", "house", "-o", "tent.png")
    told = Image.open("tent.png").info
    assert json.loads(told.pop("request"))["contexts"] == [{"modality": "text", "data": "a tent – été"}]
    assert told == {
        "command": "text-to-image",
        "prompt": "a tent – été",
        "seed": "7",
        "steps": "2",
        "guidance_scale": "7.5",
        "negative": "house",
        "model": str(model),
        "version": __version__,
    }


def test_the_command_line_makes_what_the_pipeline_makes(model: Path) -> None:
    make(model, "text-to-image", PROMPT, "--seed", 3, "-o", "cli.png")
    pipe = VersatileDiffusionPipeline.from_pretrained(model)
    expected = pipe.text_to_image(PROMPT, num_inference_steps=2, generator=torch.Generator().manual_seed(3)).images[0]
    assert (pixels("cli.png") == np.asarray(expected)).all()


@pytest.mark.usefixtures("nothing_computed")
def test_existing_files_are_kept() -> None:
    Path("fox.png").write_text("precious")
    result = vd("text-to-image", "fox", "--output", "fox.png")
    assert result.exit_code == 1
    assert "fox.png exists" in result.stderr and "--overwrite" in result.stderr
    assert Path("fox.png").read_text() == "precious"


def test_existing_files_are_replaced_if_told_so(model: Path) -> None:
    Path("fox.png").write_text("old")
    assert make(model, "text-to-image", "fox", "--output", "fox.png", "--overwrite").exit_code == 0
    assert pixels("fox.png").shape == (32, 32, 3)
    assert list(Path().glob(".*")) == []


@pytest.mark.usefixtures("nothing_computed")
@pytest.mark.parametrize(
    ("output", "message"),
    [("file/fox.png", "Cannot write in file"), ("fox.jpg", "change .jpg"), ("file/deep/er", "Cannot write")],
)
def test_outputs_that_cannot_be_written_are_errors_before_anything_is_computed(output: str, message: str) -> None:
    Path("file").touch()
    result = vd("text-to-image", "fox", "--output", output)
    assert (result.exit_code, result.stdout) == (1, "")
    assert message in result.stderr and "Traceback" not in result.stderr
    assert [path.name for path in Path().iterdir()] == ["file"]


def test_an_empty_prompt_is_allowed(model: Path) -> None:
    assert make(model, "text-to-image", "", "--seed", 1).stdout.strip() == "outputs/untitled-1.png"


def test_unknown_words_are_noted_once(model: Path) -> None:
    result = make(model, "text-to-image", "a zebra", "-n", 2)
    assert result.stderr.count("zebra") == 1 and "Note:" in result.stderr


def test_texts_are_printed_one_a_line_and_written(model: Path, file: Path) -> None:
    result = make(model, "image-to-text", file, "-n", 3, "--seed", 1, "--output", "texts.txt")
    assert result.exit_code == 0, result.output
    assert len(result.stdout.splitlines()) == 3
    assert Path("texts.txt").read_text() == result.stdout


def test_json_holds_every_output(model: Path) -> None:
    made = json.loads(make(model, "text-variation", PROMPT, "two houses", "-n", 2, "--seed", 4, "--json").stdout)
    assert [(one["prompt"], one["seed"]) for one in made] == [(p, s) for p in (PROMPT, "two houses") for s in (4, 5)]
    assert all(isinstance(one["text"], str) for one in made)


def test_variations_of_a_picture(model: Path, file: Path) -> None:
    result = make(model, "image-variation", file, "--fidelity", 0.5, "--focus", 0.2, "-n", 2, "--seed", 0)
    assert result.exit_code == 0, result.output
    assert Image.open("outputs/given-1.png").info["fidelity"] == "0.5"


@pytest.mark.parametrize(("to", "output", "shown"), [("image", "a.png", "file"), ("text", "a.txt", "text")])
def test_generate_mixes_contexts_by_weight(model: Path, file: Path, to: str, output: str, shown: str) -> None:
    contexts = ["--text", f"{PROMPT}:0.6", "--image", f"{file}:0.4"]
    result = make(model, "generate", to, *contexts, "--seed", 1, "--json", "-o", output)
    assert result.exit_code == 0, result.output
    (made,) = json.loads(result.stdout)
    assert (made["texts"], made["images"]) == (f"{PROMPT}:0.6", f"{file}:0.4")
    assert shown in made and Path(output).exists()


def test_weights_decide_what_is_blended(model: Path, file: Path) -> None:
    for name, weight in (("none", 0), ("some", 1)):
        context = ["--text", PROMPT, "--image", f"{file}:{weight}"]
        assert make(model, "blend", *context, "--seed", 1, "-o", f"{name}.png").exit_code == 0
    make(model, "text-to-image", PROMPT, "--seed", 1, "-o", "text.png")
    assert (pixels("none.png") == pixels("text.png")).all()
    assert (pixels("some.png") != pixels("text.png")).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "text"], "at least one"),
        (["generate", "image", "--text", "a:0", "--text", "b:0"], "above 0"),
        (["generate", "image", "--text", "a:-1"], "0 or more"),
        (["generate", "image", "--image", "missing.png:0.5"], "missing.png"),
        (["text-to-image", "a", "--height", "33"], "divisible"),
        (["image-to-text", "not_a_picture.txt"], "Cannot read a picture"),
        (["text-to-image", "a", "--device", "abacus"], "not a device"),
        (["train", "postcards", "--set", "nonsense=1"], "nonsense"),
        (["train", "postcards", "--run", "not_a_picture.txt/run"], "Cannot write"),
        (["convert", "nowhere", "target"], "nowhere"),
        (["evaluate", "postcards", "--json", "not_a_picture.txt"], "exists"),
    ],
)
def test_errors_are_one_clear_message(model: Path, arguments: list[str], message: str) -> None:
    Path("not_a_picture.txt").write_text("text")
    makes = arguments[0] in ("generate", "text-to-image", "image-to-text")
    result = make(model, *arguments) if makes and "--device" not in arguments else vd(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ") and message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and result.stdout == ""


def test_unknown_models_are_named() -> None:
    result = vd("text-to-image", "a", "--model", "postcard")
    assert result.exit_code == 1 and "'postcard'" in result.stderr and "postcards" in result.stderr


def test_wrong_usage_exits_with_2() -> None:
    for arguments in (["text-to-imag"], ["image-to-text", "missing.png"], ["text-to-image", "a", "-n", "0"]):
        result = vd(*arguments)
        assert result.exit_code == 2 and "Traceback" not in result.output


def test_the_demo_writes_one_page_with_everything_in_it(model: Path, file: Path) -> None:
    result = make(model, "demo", "--prompt", "<b>two</b> houses & a house", "--image", file)
    assert result.exit_code == 0, result.output
    page = Path("demo/index.html").read_text()
    assert page.count("data:image/png;base64,") == 8 + 2
    assert "&lt;b&gt;two&lt;/b&gt; houses &amp; a house" in page and "<b>two" not in page
    assert "http" not in page.replace("https://arxiv.org/abs/2211.08332", "")
    made = [f"{flow}-{seed}.png" for flow in ("image-variation", "text-to-image") for seed in (1, 2, 3, 4)]
    assert sorted(path.name for path in Path("demo").glob("*.png")) == made
    assert make(model, "demo").exit_code == 1


def test_convert_writes_a_folder_that_opens(model: Path) -> None:
    result = vd("convert", model, "half", "--dtype", "fp16", "--flows", "text-to-image")
    assert result.exit_code == 0, result.output
    (weights,) = Path("half/diffuser").glob("*.safetensors")
    assert {tensor.dtype for tensor in load_file(weights).values()} == {torch.float16}
    pipe = VersatileDiffusionPipeline.from_pretrained("half")
    assert list(pipe.diffuser.context_layers) == ["text"]


def test_help_names_every_command_and_gives_examples() -> None:
    commands = ["demo", "text-to-image", "image-to-text", "image-variation", "text-variation", "generate", "blend"]
    shown = vd("--help").stdout
    for command in [*commands, "train", "evaluate", "convert"]:
        assert command in shown
    for command in [[name] for name in commands] + [["train", "postcards"], ["evaluate", "postcards"], ["convert"]]:
        assert f" vd {' '.join(command)}" in vd(*command, "--help").stdout


def test_neither_help_nor_the_package_imports_torch() -> None:
    code = (
        "import sys, versatile_diffusion, versatile_diffusion.cli\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(versatile_diffusion.cli.app, ['--help']).exit_code == 0\n"
        "sys.exit(', '.join({'torch', 'diffusers', 'transformers', 'numpy', 'PIL'} & set(sys.modules)) or None)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("te", ["text-to-image", "text-variation", "text-to-sound"]),
        ("text-to-image --pres", ["--preset"]),
        ("text-to-image --preset ", ["fast", "quality"]),
        ("train ", ["emoji", "postcards"]),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_what_is_typed(shell: str, words: str, expected: list[str]) -> None:
    typed = f"vd {words}"
    asked = {"_TYPER_COMPLETE_ARGS": typed, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    asked |= {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1), "_VD_COMPLETE": f"complete_{shell}"}
    shown = CliRunner().invoke(app, [], prog_name="vd", env=asked).stdout
    assert all(re.search(rf"(^|[\s\"]){name}([\s\"]|$)", shown) for name in expected), shown
    assert "replay" not in shown


def test_completing_imports_nothing_that_takes_long() -> None:
    code = (
        "import sys; from versatile_diffusion.cli import main\n"
        "try: main()\n"
        "finally: print({'torch', 'diffusers', 'transformers', 'numpy', 'PIL'} & set(sys.modules), file=sys.stderr)"
    )
    typed = {"_VD_COMPLETE": "complete_bash", "COMP_WORDS": "vd batch --sch", "COMP_CWORD": "2"}
    command = f"import sys; sys.argv = ['vd']; {code}"
    ran = subprocess.run([sys.executable, "-c", command], env=os.environ | typed, capture_output=True, text=True)
    assert ran.stdout.split() == ["--scheduler"] and ran.stderr.splitlines()[-1] == "set()", ran.stderr


@given(st.text(max_size=200))
def test_slugs_are_safe_names(text: str) -> None:
    name = files.slug(text)
    assert name and len(name) <= 48 and "/" not in name and not name.startswith((".", "-"))


@given(st.lists(st.text(max_size=60), min_size=1, max_size=4), st.integers(0, 99), st.integers(1, 3))
def test_planned_files_never_collide(subjects: list[str], seed: int, count: int) -> None:
    for output in (None, Path("a.png"), Path("folder")):
        planned = files.plan_files(output, subjects, range(seed, seed + count), IMAGE.codec)
        assert len(set(planned)) == len(planned) == len(subjects) * count


def test_a_file_is_written_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    Path("kept").write_text("old")
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_whole(Path("kept"), b"new")
    assert [path.name for path in Path().iterdir()] == ["kept"] and Path("kept").read_text() == "old"


@pytest.mark.parametrize(
    ("options", "library"), [([], "torchmetrics"), (["--applications", "--plot", "a.png"], "matplotlib")]
)
def test_evaluation_says_first_which_library_it_needs(
    monkeypatch: pytest.MonkeyPatch, options: list[str], library: str
) -> None:
    monkeypatch.setattr("versatile_diffusion.cli.evaluate.open_pipeline", None)
    monkeypatch.setitem(sys.modules, library, None)
    result = vd("evaluate", "postcards", *options)
    assert result.exit_code == 1
    assert f"needs {library}: pip install 'versatile-diffusion[evaluate]'" in result.stderr


def test_training_that_diverges_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(_: object) -> None:
        raise FloatingPointError("Step 3: loss is no longer a finite number.")

    monkeypatch.setattr(
        "versatile_diffusion.worlds.postcards.training.PostcardsTraining.attribute_classifier", property(diverge)
    )
    result = vd("train", "postcards", "--stage", "attribute-classifier")
    assert result.exit_code == 1 and result.stderr.startswith("Error: Step 3: loss is no longer")
    former = vd("train", "postcards", "--stage", "oracle", "--set", "critic.steps=3").stderr
    assert "Note: oracle is called attribute-classifier now." in former
    assert "Note: critic is called perceptual_network now." in former and "Step 3: loss" in former


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("a fox:0.6", ("a fox", 0.6)),
        ("a fox", ("a fox", 1.0)),
        ("a.png:.4", ("a.png", 0.4)),
        ("now: a fox", ("now: a fox", 1.0)),
        ("at 5:30:1", ("at 5:30", 1.0)),
        (":-2", ("", -2.0)),
        ("C:\\a.png", ("C:\\a.png", 1.0)),
    ],
)
def test_weights_are_split_off(item: str, expected: tuple[str, float]) -> None:
    assert weighted(item) == expected
