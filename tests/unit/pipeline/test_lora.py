import copy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Generator, Tensor, nn
from typer.testing import CliRunner

from tests.unit.training.diffuser_runs import four_flow_task
from versatile_diffusion import Context, VersatileDiffusionPipeline
from versatile_diffusion.checkpoints import CheckpointError
from versatile_diffusion.cli import app
from versatile_diffusion.diffuser import Diffuser
from versatile_diffusion.pipeline import lora
from versatile_diffusion.pipeline.lora import Layers, add_lora, save_lora, unload_lora
from versatile_diffusion.training.loop.task import TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer

Pipe = VersatileDiffusionPipeline


@pytest.fixture
def own(session_pipe: Pipe) -> Iterator[Pipe]:
    """A pipeline with a diffuser that a test may change."""
    yield Pipe(copy.deepcopy(session_pipe.diffuser), session_pipe.scheduler, dict(session_pipe.modalities.items()))  # pyright: ignore


def made(pipe: Pipe) -> Tensor:
    embedding = torch.ones(1, 16, pipe.diffuser.config["context_dims"]["text"])
    pipe.set_progress_bar_config(disable=True)
    seed = Generator().manual_seed(0)
    context = Context("text", embedding=embedding)
    return pipe.generate("image", context, num_inference_steps=2, output_type="latent", generator=seed).latents


def saved(diffuser: nn.Module, folder: Path, seed: int, layers: Layers = "both") -> Path:
    """A LoRA that changes something, as a folder."""
    diffuser = copy.deepcopy(diffuser)
    assert isinstance(diffuser, Diffuser)
    add_lora(diffuser, 2, layers)
    generator = Generator().manual_seed(seed)
    for parameter in diffuser.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    save_lora(diffuser, folder)
    return folder


@pytest.mark.parametrize("layers", ["cross-attention", "context", "data", "both"])
def test_an_untrained_lora_changes_nothing_and_is_all_that_is_trained(own: Pipe, layers: Layers) -> None:
    before = made(own)
    add_lora(own.diffuser, 2, layers)
    assert torch.equal(made(own), before)
    trained = [name for name, parameter in own.diffuser.named_parameters() if parameter.requires_grad]
    assert trained and all(".lora_" in name for name in trained)
    parts = {"data": {"data_layers"}, "both": {"data_layers", "context_layers"}}
    assert {name.split(".")[0] for name in trained} == parts.get(layers, {"context_layers"})


def test_training_changes_the_lora_alone_and_lowers_the_loss(tmp_path: Path) -> None:
    task = four_flow_task()
    add_lora(task.model, 4, "both")
    weights = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    batch = task.draw(Generator().manual_seed(0), 16)

    def loss() -> float:
        with torch.no_grad():
            return sum(value.item() for compute in task.passes(batch) for value in compute().values())

    before = loss()
    average = Trainer(task, TrainingConfig(8, 8, 1e-2, warmup_steps=1), tmp_path / "run").run()
    assert loss() < before
    changed = {name for name, tensor in task.model.state_dict().items() if not torch.equal(tensor, weights[name])}
    assert changed and all(".lora_" in name for name in changed)
    assert isinstance(average, Diffuser)
    save_lora(average, tmp_path / "lora")
    assert set(load_file(tmp_path / "lora" / "lora.safetensors"))


# Merging and unmerging round the weights, which two guided steps magnify.


def test_scales_merging_switching_and_unloading(own: Pipe, tmp_path: Path) -> None:
    base = made(own)
    weights = {name: tensor.clone() for name, tensor in own.diffuser.state_dict().items()}
    a, b = (saved(own.diffuser, tmp_path / name, seed) for seed, name in enumerate("ab"))
    assert own.load_lora(a) == "a"
    with_a = made(own)
    assert not torch.allclose(with_a, base)
    assert own.load_lora(b, scale=0.5) == "b" and own.adapters == {"a": 1.0, "b": 0.5}
    both = made(own)
    own.fuse_lora()
    torch.testing.assert_close(made(own), both, atol=1e-4, rtol=1e-4)
    own.set_adapters({"b": 0.5})
    with_b = made(own)
    assert not torch.allclose(with_b, both) and not torch.allclose(with_b, with_a)
    own.set_adapters({"a": 1.0})
    torch.testing.assert_close(made(own), with_a, atol=1e-4, rtol=1e-4)
    own.set_adapters({"a": 0.0})
    torch.testing.assert_close(made(own), base, atol=1e-4, rtol=1e-4)
    own.unload_lora()
    for name, tensor in own.diffuser.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], atol=1e-6, rtol=0)


def test_models_with_loras_are_not_saved_until_it_is_said_how(own: Pipe, tmp_path: Path) -> None:
    own.load_lora(saved(own.diffuser, tmp_path / "a", 0))
    expected = made(own)
    for whole in (own, own.diffuser):
        with pytest.raises(ValueError, match="fuse_and_unload_lora"):
            whole.save_pretrained(tmp_path / "model")
        assert not (tmp_path / "model").exists()
    own.fuse_and_unload_lora()
    own.diffuser.save_pretrained(tmp_path / "diffuser")
    saved_weights = load_file(tmp_path / "diffuser" / "diffusion_pytorch_model.safetensors")
    assert saved_weights.keys() == own.diffuser.state_dict().keys()
    own.save_pretrained(tmp_path / "model")
    torch.testing.assert_close(made(Pipe.from_pretrained(tmp_path / "model")), expected, atol=1e-4, rtol=1e-4)


def test_a_saved_lora_makes_the_same(own: Pipe, tmp_path: Path) -> None:
    folder = saved(own.diffuser, tmp_path / "a", 0)
    own.load_lora(folder)
    expected = made(own)
    (folder / "notes").mkdir()
    save_lora(own.diffuser, folder, "a")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "lora.safetensors", "notes"]
    assert len({(folder / name).stat().st_mode for name in ("config.json", "lora.safetensors")}) == 1
    unload_lora(own.diffuser)
    own.load_lora(folder, "again")
    assert torch.equal(made(own), expected)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious").touch()
    with pytest.raises(FileExistsError, match="saved LoRA"):
        save_lora(own.diffuser, tmp_path / "other")


def test_loras_follow_a_diffuser_that_is_offloaded(own: Pipe, tmp_path: Path) -> None:
    from accelerate import cpu_offload_with_hook

    folder = saved(own.diffuser, tmp_path / "a", 0)
    own.load_lora(folder)
    expected = made(own)
    own.unload_lora()
    cpu_offload_with_hook(own.diffuser, "cpu")
    own.load_lora(folder)
    torch.testing.assert_close(made(own), expected, atol=1e-6, rtol=1e-6)


def test_bad_input_is_explained(own: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = saved(four_flow_task().model, tmp_path / "other", 0)
    with pytest.raises(CheckpointError, match=r"another model: \d+ layers do not fit .* instead of"):
        own.load_lora(other)
    with pytest.raises(CheckpointError, match="missing"):
        own.load_lora(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no context layers of modality 'audio'"):
        add_lora(own.diffuser, 2, "context", "audio")
    with pytest.raises(ValueError, match="rank of a LoRA must be 1"):
        add_lora(own.diffuser, 0)
    with pytest.raises(ValueError, match="no LoRA x, only none"):
        own.set_adapters({"x": 1.0})
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'versatile-diffusion\[lora\]'"):
        add_lora(own.diffuser)


def test_the_command_line_takes_loras_and_remembers_them(own: Pipe, tmp_path: Path) -> None:
    own.save_pretrained(tmp_path / "model")
    folder = saved(own.diffuser, tmp_path / "a", 0)
    pictures = []
    for scale in ("0", "0.8"):
        output = tmp_path / f"{scale}.png"
        arguments = f"generate image --text tent --model {tmp_path / 'model'} --steps 2 --seed 0 --dtype fp32"
        options = [*arguments.split(), "--device", "cpu", "--lora", f"{folder}:{scale}", "--output", str(output)]
        result = CliRunner().invoke(app, options)
        assert result.exit_code == 0, result.output
        assert Image.open(output).info["lora"] == f"{folder}:{scale}"
        pictures.append(Image.open(output).tobytes())
    assert pictures[0] != pictures[1]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("merge_loras", "fuse_lora"),
        ("unmerge_loras", "unfuse_lora"),
        ("unload_loras", "unload_lora"),
        ("bake_loras", "fuse_and_unload_lora"),
    ],
)
def test_names_of_before_go_on_working(own: Pipe, old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(lora, new, called.append)
    with pytest.warns(DeprecationWarning, match=f"`{old}` is called `{new}` now"):
        getattr(own, old)()
    assert called == [own.diffuser]
    monkeypatch.undo()
    with pytest.warns(DeprecationWarning, match=f"`{old}` is called `{new}` now"):
        assert getattr(lora, old) is getattr(lora, new)


def test_names_of_before_for_scales(own: Pipe) -> None:
    add_lora(own.diffuser, 2)
    with pytest.warns(DeprecationWarning, match="`set_adapters` now"):
        own.set_loras({"lora": 0.5})
    with pytest.warns(DeprecationWarning, match="`adapters` now"):
        assert own.loras == {"lora": 0.5}
    with pytest.raises(AttributeError, match="no attribute 'melt_loras'"):
        lora.melt_loras  # noqa: B018
