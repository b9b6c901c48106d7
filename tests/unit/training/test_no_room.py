"""A disk that is full: what was whole stays whole, and the message says what to do."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training import drawn_data
from tests.unit.training.test_training import CONFIG, Line
from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.data.captioned_data import CaptionedData, SkippedSamples
from versatile_diffusion.data.problems import BadSample
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.training.loop import checkpoint
from versatile_diffusion.training.loop.metric_logger import MetricLogger
from versatile_diffusion.training.loop.trainer import Trainer
from versatile_diffusion.training.samples import encoded_samples
from versatile_diffusion.training.samples.sample_cache import CacheBuilder
from versatile_diffusion.training.samples.sample_encoder import SampleEncoder
from versatile_diffusion.training.samples.sample_reader import SampleReader


def full(file_of: Callable[..., Path]) -> Callable[..., None]:
    """A function that writes the beginning of a file, and finds no room for the rest."""

    def write(*arguments: Any) -> None:
        file_of(*arguments).write_bytes(b"begun")
        raise OSError(errno.ENOSPC, "No space left on device")

    return write


def test_a_checkpoint_without_room_leaves_the_last_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full(lambda tensors, path: path))
        with pytest.raises(OSError, match=r"No space left on device.*no checkpoint before it\. Free some room"):
            Trainer(Line(), CONFIG, tmp_path).run()
    Trainer(Line(), replace(CONFIG, steps=8), tmp_path).run()
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", full(lambda tensors, path: path))
        with pytest.raises(OSError, match=r"The last checkpoint is whole: .*step-00000008\. Free some room.* to go on"):
            Trainer(Line(), CONFIG, tmp_path).run()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step-00000008"]
    assert not (tmp_path / ".unfinished").exists()
    trainer = Trainer(Line(), CONFIG, tmp_path)
    trainer.run()
    assert trainer.step == CONFIG.steps


def test_a_log_or_a_sheet_without_room_says_what_is_whole_and_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    Trainer(Line(), replace(CONFIG, steps=8), tmp_path).run()
    again = r"could not be written to .*No space left.*is whole: .*step-00000008\. Free some room.* to go on"
    with pytest.raises(OSError, match=f"^What it makes at step .* {again}"):
        Trainer(Line(), replace(CONFIG, preview_every=1), tmp_path, on_preview=no_room).run()
    with monkeypatch.context() as patch:
        patch.setattr(MetricLogger, "write", no_room)
        with pytest.raises(OSError, match=f"^The log {again}"):
            Trainer(Line(), replace(CONFIG, log_every=1), tmp_path).run()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == ["step-00000008"]
    trainer = Trainer(Line(), CONFIG, tmp_path)
    trainer.run()
    assert trainer.step == CONFIG.steps


def test_a_file_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    skipped = SkippedSamples(file := tmp_path / "skipped.jsonl")
    file.unlink()
    file.symlink_to("/dev/full")  # which never ends, were it read
    with pytest.raises(OSError, match=r"Which sample .*skipped\.jsonl .*No space left.*to go on"):
        skipped.add("a", BadSample("It is damaged."))
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
    with pytest.raises(OSError, match=r"No space left.*run\.yaml"):
        write_whole(tmp_path / "run.yaml", b"steps: 1")


def test_a_cache_without_room_says_what_to_do_and_is_gone_on_with(
    session_pipe: VersatileDiffusionPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = SampleEncoder(dict(session_pipe.modalities.items()), [Flow("image", "image")], 2)
    source = drawn_data.folder(tmp_path / "data", 3)
    builder = CacheBuilder(tmp_path / "cache", SampleReader(encoder, SkippedSamples()), {}, 2**20)
    with monkeypatch.context() as patch:
        patch.setattr(encoded_samples, "write_whole", full(lambda path, content: path.with_name(".part")))
        with pytest.raises(OSError, match=r"No space left on device.*Free some room.*--cache never"):
            builder.build(CaptionedData(source))
    assert not list((tmp_path / "cache").glob("*.safetensors"))
    assert len(builder.build(CaptionedData(source))["training"]) == 3
