"""A modality that no file of the package knows is generated, listed, embedded and replayed by the same commands."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.cli.test_cli import empty_folder, make, vd  # noqa: F401
from tests.unit.modalities.tones import FRAMES, TONE, TONES
from tests.unit.test_third_modality import saved, three, tones_are_known  # noqa: F401


@pytest.fixture(autouse=True)
def given(empty_folder: Path) -> Path:  # noqa: F811
    path = empty_folder / "given.wav"
    path.write_bytes(TONE.codec.encode(TONES[1]))
    return path


def test_it_is_generated_written_and_made_again(saved: Path, given: Path) -> None:  # noqa: F811
    contexts = ["--context", f"tone={given}:1", "--context", "text=a red tent:0.5"]
    result = make(saved, "generate", "tone", *contexts, "--guidance-rescale", 0.4, "-n", 2, "--seed", 5, "-o", "made")
    assert result.exit_code == 0, result.output
    files = [Path(line) for line in result.stdout.split()]
    assert [file.suffix for file in files] == [".wav", ".wav"]
    told = json.loads(Path(f"{files[1]}.json").read_text())
    assert (told["command"], told["seed"], told["guidance_rescale"]) == ("generate tone", 6, 0.4)
    assert told["contexts"] == f"tone={given}:1 | text=a red tent:0.5"
    given.unlink()  # all that is needed is in the record
    for file in (files[0], Path(f"{files[1]}.json")):
        again = vd("replay", file, "--model", saved, "--output", "again.wav", "--overwrite")
        assert again.exit_code == 0 and "The same, value for value." in again.stderr, again.output
        assert Path("again.wav").read_bytes() == file.with_name(file.name.removesuffix(".json")).read_bytes()
    assert vd("replay", "again.wav", "--model", saved).exit_code == 0


def test_it_stands_in_lists(saved: Path) -> None:  # noqa: F811
    lines = [{"tone": "given.wav", "text": "a tree"}, {"tone": "given.wav", "seed": 3}, {"text": "a tree"}]
    Path("list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    result = make(saved, "batch", "list.jsonl", "--to", "tone", "-o", "made")
    assert result.exit_code == 0, result.output
    names = [f"line-000{line}-seed-{seed}.wav" for line, seed in ((1, 0), (2, 3), (3, 0))]
    assert sorted(path.name for path in Path("made").glob("*.wav")) == names
    assert vd("replay", f"made/{names[0]}", "--model", saved, "--json").exit_code == 0


def test_a_folder_of_it_is_embedded(saved: Path, given: Path) -> None:  # noqa: F811
    (Path("tones") / ".hidden").mkdir(parents=True)
    for name in ("a.wav", "b.WAVE", "no-suffix", ".hidden/c.wav"):
        Path("tones", name).write_bytes(given.read_bytes())
    Path("tones/notes.txt").write_text("no tone")
    result = vd("embed", "tones", "--modality", "tone", "--model", saved, "-o", "tones.safetensors")
    assert result.exit_code == 0, result.output
    embedded = load_file("tones.safetensors")["tone"]
    assert embedded.shape[:2] == (3, FRAMES) and torch.equal(embedded[0], embedded[2])
    assert "Left out" in result.stderr and "notes.txt" in result.stderr and "hidden" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generate", "smell", "--text", "a"], "no modality 'smell'"),
        (["generate", "tone", "--context", "smell=a.txt"], "no modality 'smell'"),
        (["generate", "tone", "--context", "given.wav"], "must say what it is"),
        (["generate", "tone", "--context", "tone=none.wav"], "none.wav"),
        (
            ["generate", "tone", "--text", "a", "--temperature", "0"],
            "--temperature is not for outputs of modality 'tone'",
        ),
        (["generate", "tone", "--text", "a", "-o", "a.wave"], "change .wave of --output a.wave to .wav"),
    ],
)
def test_what_cannot_be_made_is_one_clear_message(arguments: list[str], message: str) -> None:
    result = vd(*arguments)
    assert result.exit_code == 1 and result.stderr.startswith("Error: ") and message in result.stderr
