"""What one LoRA step of the full-size model takes: seconds, and the most memory of the whole process.

    python benchmarks/full_size_step.py --keep models
    python benchmarks/full_size_step.py --keep models --distill

A model of the official sizes and of random weights is written (3.3 GB in half precision, kept in the folder of --keep),
with the layers of text to image and of image variation. Then training begins on it as `vd train` does: the encoders
encode two pictures of 512 × 512 with captions, leave memory, and the diffuser takes its steps. Or a LoRA is distilled,
as `vd distill` does. Linux only.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from versatile_diffusion.bench.process import status
from versatile_diffusion.bench.sizes import empty, kept_folder
from versatile_diffusion.checkpoints import Checkpoint, write
from versatile_diffusion.checkpoints.components import DIFFUSER
from versatile_diffusion.checkpoints.folder import is_ours
from versatile_diffusion.checkpoints.tensors import LazyTensor
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities import TextModality
from versatile_diffusion.modalities.vocabulary import word_tokenizers
from versatile_diffusion.model_presets import vd_four_flow
from versatile_diffusion.training.own_data.distillation import Distillation
from versatile_diffusion.training.own_data.finetuning import FineTuning
from versatile_diffusion.training.settings.distillation_settings import DistillationSettings
from versatile_diffusion.training.settings.training_settings import TrainingSettings
from versatile_diffusion.validation import checked

FLOWS = ("text-to-image", "image-variation")
CAPTIONS = ("a red tent in the snow", "a house by the sea")
SIDE = 512
_BLOCK = 2**16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="folder that keeps the model for the next time")
    parser.add_argument("--steps", type=int, default=2, help="the first one is not timed")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--distill", action="store_true", help="a step of vd distill instead of vd train")
    arguments = parser.parse_args()
    with (
        kept_folder(arguments.keep, "full-size-two-flows", is_ours, write_random) as model,
        tempfile.TemporaryDirectory() as place,
    ):
        print(json.dumps(measured(model, Path(place), arguments), indent=2))


def measured(model: Path, place: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Trains some steps and returns what they took: bytes, seconds, and the numbers of weights."""
    draw(place / "data")
    values: dict[str, object] = {"data": str(place / "data"), "start": str(model), "flows": FLOWS, "batch_size": 1}
    values |= {"checkpointing": True, "validation": 0, "steps": arguments.steps, "precision": arguments.precision}
    training = (
        Distillation(checked(DistillationSettings, values), place / "run")
        if arguments.distill
        else FineTuning(checked(TrainingSettings, values), place / "run")
    )
    clock = time.perf_counter()
    training.samples  # noqa: B018 - encodes them
    found = {"encoding, s": time.perf_counter() - clock, "encoding, peak bytes": status("VmHWM")}
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    trainer = training.trainer
    found |= {"before the steps, bytes": status("VmRSS"), "opening, peak bytes": status("VmHWM")}
    for number in range(arguments.steps):
        clock = time.perf_counter()
        found |= trainer.update()
        found[f"step {number + 1}, s"] = time.perf_counter() - clock
    found["training, peak bytes"] = status("VmHWM")
    found["peak bytes"] = max(size for name, size in found.items() if "peak" in name)
    found["weights"] = sum(each.numel() for each in training.diffuser.parameters())
    found["trained"] = sum(each.numel() for each in trainer.parameters)
    return found


def draw(folder: Path) -> None:
    """Writes pictures of noise with captions."""
    folder.mkdir()
    for number, caption in enumerate(CAPTIONS):
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption)


def write_random(folder: Path) -> None:
    """Saves a model of the official sizes whose small random weights are made as they are written."""
    components = empty(vd_four_flow(), [Flow.parse(name) for name in FLOWS])
    modules = {DIFFUSER: components.diffuser, **components.modalities}
    tensors = {
        name: {key: random_tensor(key, tensor) for key, tensor in module.state_dict().items()}
        for name, module in modules.items()
    }
    text = components.modalities["text"]
    assert isinstance(text, TextModality)
    text.tokenizers = word_tokenizers(CAPTIONS)
    checkpoint = Checkpoint(components.diffuser, components.modalities, components.scheduler, tensors)
    write(checkpoint, folder, max_shard_size="500MB")


def random_tensor(key: str, tensor: torch.Tensor) -> LazyTensor:
    """Returns a tensor of that shape in half precision, which is made when it is read."""
    shape, size = tuple(tensor.shape), tensor.numel()
    if not tensor.is_floating_point():
        return LazyTensor.of(tensor)

    def make() -> torch.Tensor:
        if len(shape) < 2:
            return torch.full(shape, float(key.endswith("weight")), dtype=torch.float16)
        block = (0.04 * torch.rand(min(size, _BLOCK)) - 0.02).half()  # repeated: to draw billions takes minutes
        return block.repeat(-(-size // len(block)))[:size].reshape(shape)

    return LazyTensor(shape, torch.float16, make)


if __name__ == "__main__":
    main()
