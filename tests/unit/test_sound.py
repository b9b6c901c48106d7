"""Sound is a modality like the others: all nine flows run, by name, on the command line, and are made again."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Generator

from tests.unit.cli.test_cli import empty_folder, make, vd  # noqa: F401
from tests.unit.modalities.small_sound import sine, small_sound
from versatile_diffusion import Context, VersatileDiffusionPipeline, extras
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.modalities import Modality
from versatile_diffusion.modalities.sound_files import read_record
from versatile_diffusion.modalities.sounds import Sound, read_sounds
from versatile_diffusion.provenance.record import CHUNK

DATA = {"sound": sine(), "text": "a red tent", "image": Image.new("RGB", (20, 20), "teal")}


@pytest.fixture(scope="module")
def nine(session_pipe: VersatileDiffusionPipeline) -> VersatileDiffusionPipeline:
    """A model of random weights with all nine flows."""
    modalities: dict[str, Modality] = {**dict(session_pipe.modalities.items()), "sound": small_sound()}
    data_layers = {name: modality.data_layers for name, modality in modalities.items()}
    context_dims = {name: modality.context_dim for name, modality in modalities.items()}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        diffuser = Diffuser(DiffuserConfig(32, (1, 2), (1, 1), (True, False), num_heads=4), data_layers, context_dims)
        for parameter in diffuser.parameters():
            if not parameter.any():  # zero at the start of training, where contexts would not matter
                torch.nn.init.normal_(parameter, std=0.05)
    pipe = VersatileDiffusionPipeline(diffuser.eval(), session_pipe.scheduler, modalities)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def saved(nine: VersatileDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "nine"
    nine.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("context", "output"), product(DATA, DATA))
def test_all_nine_flows_run_by_their_names(nine: VersatileDiffusionPipeline, context: str, output: str) -> None:
    name = f"{context}_variation" if context == output else f"{context}_to_{output}"
    made = getattr(nine, name)(DATA[context], num_inference_steps=2, generator=Generator().manual_seed(0))
    assert made.modality == output and made.latents.isfinite().all()
    assert len(getattr(made, f"{output}s")) == 1


def test_flows_of_what_is_not_there_are_no_methods(nine: VersatileDiffusionPipeline) -> None:
    with pytest.raises(AttributeError, match="text_to_smell"):
        nine.text_to_smell("a")


def test_a_sound_is_as_long_as_asked(nine: VersatileDiffusionPipeline) -> None:
    def made(**options: Any) -> Sound:
        seed = Generator().manual_seed(3)
        (sound,) = nine.text_to_sound("a tent", num_inference_steps=2, generator=seed, **options).sounds
        return sound

    assert made().seconds == 1.0 and made().rate == 2000
    assert made(seconds=0.333).samples.shape == (1, 666)
    assert made(seconds=2).seconds == 2
    assert made().samples.any(), "silence tells nothing"
    with pytest.raises(ValueError, match="too long for this model, which makes up to 4"):
        made(seconds=5)
    with pytest.raises(ValueError, match="no height and width"):
        made(width=64)
    quiet = made(loudness=-40)
    assert 20 * np.log10(np.sqrt(np.square(quiet.samples, dtype=float).mean())) == pytest.approx(-40, abs=0.5)


def test_contexts_matter_and_mix(nine: VersatileDiffusionPipeline) -> None:
    def made(*weights: float) -> torch.Tensor:
        contexts = [Context(name, data, weight=w) for (name, data), w in zip(DATA.items(), weights, strict=True)]
        seed = Generator().manual_seed(3)
        return nine.generate("sound", contexts, num_inference_steps=2, generator=seed).latents

    alone, others, mixed = made(1, 0, 0), made(0, 1, 1), made(1, 1, 1)
    assert not torch.allclose(alone, others, atol=1e-4) and not torch.allclose(alone, mixed, atol=1e-4)


def test_a_start_keeps_its_length(nine: VersatileDiffusionPipeline) -> None:
    made = nine.sound_variation(sine(), start=sine(seconds=0.61), strength=0.5, num_inference_steps=4)
    assert made.sounds[0].seconds == pytest.approx(0.64, abs=1e-3)  # the end of its last position
    cut = nine.sound_variation(sine(), start=sine(seconds=0.6), strength=0.5, num_inference_steps=4, seconds=0.3)
    assert cut.sounds[0].seconds == 0.3


def test_a_batch_equals_those_made_alone(nine: VersatileDiffusionPipeline) -> None:
    sounds = [sine(220), sine(500, seconds=1.7)]
    together = nine.sound_variation(sounds, num_inference_steps=2, seeds=(1, 2)).latents
    alone = [nine.sound_variation(s, num_inference_steps=2, seeds=(i + 1,)).latents for i, s in enumerate(sounds)]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)


def test_a_text_becomes_a_sound_that_is_made_again(saved: Path, empty_folder: Path) -> None:  # noqa: F811
    result = make(saved, "text-to-sound", "a red tent", "--seconds", 0.5, "-n", 2, "--seed", 5, "-o", "made")
    assert result.exit_code == 0, result.output
    first, second = (Path(line) for line in result.stdout.split())
    assert first == Path("made/a-red-tent-5.wav") and read_sounds(first)[0].seconds == 0.5
    told = read_record(second.read_bytes())
    assert (told["command"], told["seed"], told["seconds"]) == ("text-to-sound", "6", "0.5")
    assert json.loads(told[CHUNK])["to"] == "sound"
    again = vd("replay", second, "--model", saved, "--output", "again.wav")
    assert again.exit_code == 0 and "The same, value for value." in again.stderr, again.output
    assert np.array_equal(read_sounds("again.wav")[0].samples, read_sounds(second)[0].samples)


def test_a_sound_is_blended_with_a_text(saved: Path, empty_folder: Path) -> None:  # noqa: F811
    sine(seconds=0.4, channels=2).save("rain.flac")
    result = make(saved, "blend", "--sound", "rain.flac:0.5", "--text", "a red tent:0.5", "-o", "seen.png")
    assert result.exit_code == 0, result.output
    Path("rain.flac").unlink()
    assert Image.open("seen.png").info["sounds"] == "rain.flac:0.5"
    again = vd("replay", "seen.png", "--model", saved)
    assert again.exit_code == 0 and "pixel for pixel" in again.stderr, again.output
    wrong = make(saved, "sound-to-text", "seen.png")
    assert wrong.exit_code == 1 and "It is no sound that can be read" in wrong.stderr


def test_in_half_precision(saved: Path, empty_folder: Path) -> None:  # noqa: F811
    sine().save("a.wav")
    for command in ("sound-variation", "sound-to-text"):
        result = make(saved, command, "a.wav", "--dtype", "bf16")
        assert result.exit_code == 0, result.output


def test_what_is_not_installed_is_told_before_anything_is_computed(
    empty_folder: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    result = vd("text-to-sound", "a tent", "--model", "none")
    assert result.exit_code == 1 and "A .wav file needs soundfile: pip install" in result.stderr


@pytest.mark.slow
def test_a_folder_of_sounds_and_captions_is_learnt(saved: Path, empty_folder: Path) -> None:  # noqa: F811
    Path("data").mkdir()
    for number, (frequency, seconds) in enumerate([(200, 0.3), (300, 1), (440, 1.5), (600, 1)]):
        sine(frequency, seconds, 16000).save(f"data/{number}.{'flac' if number % 2 else 'wav'}")
        Path(f"data/{number}.txt").write_text("a red tent")
    flows = [part for name in ("text-to-sound", "sound-to-text") for part in ("--flows", name)]
    trained = vd("train", "data", "--start", saved, *flows, "--batch-size", 2, "--steps", 2, "-o", "run")
    assert trained.exit_code == 0, trained.output
    assert "vd text-to-sound 'a prompt'" in trained.stdout
    made = make(saved, "text-to-sound", "a tent", "--lora", "run/lora", "-o", "made.wav")
    assert made.exit_code == 0 and Path("made.wav").exists(), made.output
