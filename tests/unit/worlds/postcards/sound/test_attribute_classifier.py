import pytest
import torch

from versatile_diffusion.modalities.sounds import Sound
from versatile_diffusion.worlds.postcards.data import ATTRIBUTES
from versatile_diffusion.worlds.postcards.sound.attribute_classifier import (
    SoundAttributeClassifier,
    SoundAttributeClassifierTask,
)
from versatile_diffusion.worlds.postcards.sound.mels import FRAMES, SPECTRUM

COUNTS = [len(values) for values in ATTRIBUTES.values()]


def test_clips_that_are_changed_over_tell_the_other_side() -> None:
    sides = torch.zeros(2, FRAMES, SPECTRUM.bands)
    sides[0] = 10  # all of it on the left
    labels = torch.zeros(1, len(COUNTS), dtype=torch.int64)
    task = SoundAttributeClassifierTask(SoundAttributeClassifier((8, 8)), sides[None].half().numpy(), labels)
    batch = task.draw(torch.Generator().manual_seed(0), 64)
    louder_left = batch["mels"][:, 0].mean((1, 2)) > batch["mels"][:, 1].mean((1, 2))
    assert 16 < louder_left.sum() < 48
    assert torch.equal(batch["labels"][:, task.position], torch.where(louder_left, 0, 2))


def test_it_learns_what_mels_tell() -> None:
    torch.manual_seed(0)
    labels = torch.stack([torch.arange(30) % count for count in COUNTS], dim=1)
    mels = torch.full((30, 2, FRAMES, SPECTRUM.bands), -8.0)
    for mel, label in zip(mels, labels, strict=True):
        for i, value in enumerate(label.tolist()):
            mel[:, 20 * i : 20 * i + 20, 6 * value : 6 * value + 4] = 0
    task = SoundAttributeClassifierTask(SoundAttributeClassifier((8, 16)), mels.half().numpy(), labels)
    optimizer = torch.optim.Adam(task.model.parameters(), 3e-3)
    losses: list[float] = []
    for step in range(30):
        for one in task.passes(task.draw(torch.Generator().manual_seed(step), 16)):
            loss = one()["cross-entropy"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("channels", [1, 2])
def test_it_reads_sounds_of_any_rate_and_length(channels: int) -> None:
    sound = Sound(torch.rand(channels, 30_000) - 0.5, 22_050)
    (read,) = SoundAttributeClassifier((8, 8)).eval().read_sounds([sound])
    assert all(read[name] in values for name, values in ATTRIBUTES.items())
