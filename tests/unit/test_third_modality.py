"""A new modality adds files and changes none: tests/unit/modalities/tones.py is all that tones need."""

import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from tests import processes
from tests.unit.modalities.tones import SAMPLES, TONE, TONES, ToneModality, install, known, small_tones
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import CheckpointError, convert, open_modality
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import Modality, registry
from versatile_diffusion.modalities.registry import modality_spec, unregister
from versatile_diffusion.model_presets import ModalityPreset, build, tiny
from versatile_diffusion.training.loop.batch_share import WHOLE, BatchShare
from versatile_diffusion.training.loop.task import TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.tasks.diffuser import DiffuserTask

TEXTS = ["a red tent", "a blue lighthouse", "a green house", "a tree"]


class Pairs:
    """Each tone with its text."""

    def __init__(self, modalities: dict[str, Modality]) -> None:
        items = {"tone": list(TONES), "text": TEXTS}
        self.modalities = modalities
        with torch.no_grad():
            self.latents = {name: modalities[name].encode(items[name]) for name in items}
            self.tokens = {name: modalities[name].embed(items[name]) for name in items}

    def draw(self, flow: Flow, count: int, generator: Generator, share: BatchShare = WHOLE) -> tuple[Tensor, Tensor]:
        index = share.of(torch.randint(len(TEXTS), (count,), generator=generator))
        return self.latents[flow.output][index], self.tokens[flow.context][index]

    def first(self, flow: Flow, count: int) -> tuple[Tensor, Tensor]:
        return self.latents[flow.output][:count], self.tokens[flow.context][:count]

    def teaches(self, flow: Flow) -> bool:
        return True

    def unconditional(self, flow: Flow) -> Tensor:
        return self.modalities[flow.context].unconditional(flow.output)


@pytest.fixture(autouse=True)
def tones_are_known() -> Iterator[None]:
    with known():
        yield


@pytest.fixture(scope="module")
def three(session_pipe: VersatileDiffusionPipeline) -> VersatileDiffusionPipeline:
    """A model of random weights with all nine flows."""
    torch.manual_seed(0)
    others: dict[str, Any] = dict(session_pipe.modalities.items())
    modalities: dict[str, Modality] = {**others, "tone": small_tones()}
    config = DiffuserConfig(64, (1,), (1,), (True,), num_heads=4)
    data_layers = {name: modality.data_layers for name, modality in modalities.items()}
    context_dims = {name: modality.context_dim for name, modality in modalities.items()}
    diffuser = Diffuser(config, data_layers, context_dims).eval()
    pipe = VersatileDiffusionPipeline(diffuser, session_pipe.scheduler, modalities)
    pipe.set_progress_bar_config(disable=True)
    return pipe


DATA = {"tone": TONES[0], "text": "a red tent", "image": Image.new("RGB", (20, 20), "teal")}


@pytest.mark.parametrize(("context", "output"), product(DATA, DATA))
def test_all_nine_flows_run(three: VersatileDiffusionPipeline, context: str, output: str) -> None:
    generator = Generator().manual_seed(0)
    made = three.generate(output, Context(context, DATA[context]), num_inference_steps=2, generator=generator)
    assert made.latents.isfinite().all()
    (item,) = made.items
    if output == "tone":
        assert item.shape == (SAMPLES,)
    assert three.modalities[output].read(item)  # pyright: ignore


def test_a_mixture_of_all_three_with_a_start(three: VersatileDiffusionPipeline) -> None:
    contexts = [Context(name, data, weight=i + 1) for i, (name, data) in enumerate(DATA.items())]
    options: dict[str, Any] = {"num_inference_steps": 4, "start": TONES[1], "strength": 0.5, "volume": 0.5}
    made = three.generate("tone", contexts, num_outputs=2, **options)
    assert [item.shape for item in made.items] == [(SAMPLES,)] * 2
    assert max(item.abs().max() for item in made.items) <= 0.5


def test_a_third_modality_is_trained_saved_and_loaded(three: VersatileDiffusionPipeline, tmp_path: Path) -> None:
    flows = [Flow.parse(name) for name in ("tone-variation", "text-to-tone")]
    task = DiffuserTask(three.diffuser, flows, Pairs(dict(three.modalities.items())), three.scheduler)  # pyright: ignore
    config = TrainingConfig(30, 8, 3e-3, warmup_steps=5, checkpoint_every=30)

    @torch.no_grad()
    def loss() -> dict[str, float]:
        batch = task.draw(Generator().manual_seed(1), 32)
        return {name: float(value) for compute in task.passes(batch) for name, value in compute().items()}

    before = loss()
    trained = Trainer(task, config, tmp_path / "run").run()
    after = loss()
    assert set(before) == {"tone-variation", "text-to-tone"}
    assert all(after[name] < 0.8 * before[name] for name in before), (before, after)

    assert isinstance(trained, Diffuser)
    pipe = VersatileDiffusionPipeline(trained.eval(), three.scheduler, dict(three.modalities.items()))  # pyright: ignore
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "model")

    def made(pipe: VersatileDiffusionPipeline, context: str) -> Tensor:
        generator = Generator().manual_seed(2)
        return pipe.generate(
            "tone", Context(context, DATA[context]), num_inference_steps=2, generator=generator
        ).latents

    opened = VersatileDiffusionPipeline.from_pretrained(tmp_path / "model")
    assert all(torch.equal(made(opened, context), made(pipe, context)) for context in DATA)
    alone = VersatileDiffusionPipeline.from_pretrained(tmp_path / "model", flows=["tone-variation"])
    assert list(alone.modalities) == ["tone"]
    assert torch.equal(made(alone, "tone"), made(pipe, "tone"))


@pytest.fixture(scope="module")
def saved(three: VersatileDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "three"
    three.save_pretrained(folder)
    return folder


def test_a_modality_that_is_not_known_is_named_and_may_be_passed(saved: Path) -> None:
    unregister(TONE)
    with pytest.raises(CheckpointError, match=r"the modality 'tone', and only image, text, sound are known.*Install"):
        VersatileDiffusionPipeline.from_pretrained(saved)
    opened = VersatileDiffusionPipeline.from_pretrained(saved, flows=["tone-variation"], modalities=[ToneModality])
    assert list(opened.modalities) == ["tone"]


def test_its_encoder_is_opened_alone_and_the_model_is_converted(saved: Path, tmp_path: Path) -> None:
    convert(saved, tmp_path / "tones", flows=[Flow.parse("tone-variation")])  # which makes no images
    alone, whole = open_modality(tmp_path / "tones", "tone"), open_modality(saved, "tone")
    assert torch.equal(alone.embed(alone.read(TONES[0])), whole.embed(whole.read(TONES[0])))


def test_its_items_are_made_written_and_read(saved: Path, tmp_path: Path) -> None:
    codec = modality_spec("tone").codec
    file = tmp_path / f"tone{codec.suffix}"
    file.write_bytes(codec.encode(TONES[1]))
    pipe = VersatileDiffusionPipeline.from_pretrained(saved, flows=["tone-variation"])
    pipe.set_progress_bar_config(disable=True)
    (made,) = pipe.generate("tone", Context("tone", codec.parse(str(file))), num_inference_steps=2).items
    file.write_bytes(codec.encode(made))
    torch.testing.assert_close(codec.read(file), made, atol=1e-4, rtol=0)
    assert [torch.equal(codec.restored(value), made) for value in codec.values([made, made])] == [True, True]  # pyright: ignore[reportArgumentType] - values of tones are tensors
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ValueError, match=r"tone\.wav: A tone must be a whole \.wav"):
        codec.read(file)


def test_its_options_are_checked(three: VersatileDiffusionPipeline) -> None:
    assert modality_spec("tone").decoding.model_fields.keys() == {"volume"}
    with pytest.raises(ValueError, match=r"volume .*got 2"):
        three.generate("tone", Context("tone", TONES[0]), num_inference_steps=1, volume=2)
    with pytest.raises(TypeError, match=r"options: temperature\..*'tone' take volume"):
        three.generate("tone", Context("tone", TONES[0]), num_inference_steps=1, temperature=0)


def tell_what_is_opened(packages: str, saved: str) -> None:
    """In a process where these packages are installed and nothing is registered."""
    sys.path.insert(0, packages)
    registry._installed.cache_clear()
    assert registry.modality_names() == ("image", "text", "sound", "tone")
    pipe = VersatileDiffusionPipeline.from_pretrained(saved, flows=["tone-variation"])
    print(type(pipe.modalities["tone"]).__name__)


def test_a_package_brings_it_to_other_processes(saved: Path, tmp_path: Path) -> None:
    install(tmp_path / "packages")
    done = processes.start(tell_what_is_opened, str(tmp_path / "packages"), str(saved))
    assert (done.returncode, done.stdout.strip()) == (0, TONE.load().__name__), done.stderr


def test_a_preset_may_have_it() -> None:
    preset = tiny().with_modalities(tone=ModalityPreset({"latent_dim": 12}, {"dim": 20}))
    components = build(preset, [Flow.parse("text-to-tone"), Flow.parse("tone-to-image")])
    assert list(components.modalities) == ["image", "tone", "text"]
    assert list(components.diffuser.data_layers) == ["image", "tone"]
    assert components.diffuser.config["context_dims"] == {"text": 24, "tone": 20}
