"""Measures what can be heard of rendered postcards: by the attribute classifier on sound, and by an ear of others.

pip install 'versatile-diffusion[postcards,listen,train]'
python benchmarks/hear_postcards.py train runs/hear_postcards          # the classifier, in minutes on one core
python benchmarks/hear_postcards.py measure runs/hear_postcards --num 256
python benchmarks/hear_postcards.py listen --num 256                   # PocketSphinx: voices alone, and in clips
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import track

from versatile_diffusion.evaluation.attribute_scores import score
from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.training.loop.task import TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.worlds.postcards.data import ATTRIBUTES, Postcards, Split
from versatile_diffusion.worlds.postcards.evaluation.listening import heard_voices
from versatile_diffusion.worlds.postcards.sound import RATE, render_components
from versatile_diffusion.worlds.postcards.sound.attribute_classifier import (
    SoundAttributeClassifier,
    SoundAttributeClassifierTask,
)
from versatile_diffusion.worlds.postcards.sound.clip_pool import ClipPool
from versatile_diffusion.worlds.postcards.sound.mels import mels_in

TRAINING_SEED, FRESH_SEED = 9000, 9001

app = typer.Typer(help=__doc__)
Num = Annotated[int, typer.Option(min=1, help="Clips that are measured.")]


@app.command()
def train(
    run: Path,
    clips: Annotated[int, typer.Option(min=1, help="Clips that are rendered to learn from.")] = 3000,
    steps: Annotated[int, typer.Option(min=1)] = 700,
) -> None:
    """Renders clips, and trains the attribute classifier on them."""
    torch.manual_seed(0)
    postcards = Postcards(TRAINING_SEED, clips, Split.ALL)
    labels = torch.tensor([postcards.scene(i).indices for i in range(clips)])
    task = SoundAttributeClassifierTask(SoundAttributeClassifier(), mels_in(ClipPool(postcards, run / "clips")), labels)
    config = TrainingConfig(steps, 48, 2e-3, ema_decay=0.99, weight_decay=0.05, checkpoint_every=500)
    classifier = Trainer(task, config, run / "classifier", "attribute classifier").run().cpu().eval()
    classifier.save_pretrained(run / "model")


@app.command()
def measure(run: Path, num: Num = 400) -> None:
    """Prints which share of fresh clips the classifier reads rightly, for each attribute."""
    classifier = SoundAttributeClassifier.from_pretrained(run / "model").eval()
    postcards = Postcards(FRESH_SEED, num, Split.ALL)
    mels = torch.as_tensor(mels_in(ClipPool(postcards, run / "clips"))).float()
    found = [read for part in mels.split(64) for read in classifier.read(part)]
    result = score([postcards.scene(i).attributes for i in range(num)], found, ATTRIBUTES)
    for name, share in [("all", result.accuracy), *result.per_attribute.items()]:
        print(f"{name:10} {share:.3f}")


@app.command()
def listen(num: Num = 256) -> None:
    """Prints how often PocketSphinx understands the voice alone, and in the whole clip."""
    postcards = Postcards(FRESH_SEED, num, Split.ALL)
    scenes = [postcards.scene(i) for i in range(num)]
    rendered = [render_components(scene) for scene in track(scenes, "rendering sounds", transient=True)]
    print("voice alone", heard_voices([Sound(parts.voice, RATE) for parts in rendered], scenes))
    print("whole clip ", heard_voices([parts.mixed() for parts in rendered], scenes))


if __name__ == "__main__":
    app()
