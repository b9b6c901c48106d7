from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as checked

from versatile_diffusion.training.loop.task import Amount, Count, TrainingConfig
from versatile_diffusion.training.settings.config import (
    differences,
    parse_settings,
    read_settings,
    renamed,
    with_settings,
)


@dataclass(frozen=True)
class Sizes:
    width: int = 8
    channels: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class WideSizes(Sizes):
    height: int = 1


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class Plan:
    stage: TrainingConfig = TrainingConfig(3, 4, 1e-3)
    sizes: Sizes = field(default_factory=Sizes)
    images: Count = 10
    more: Mapping[str, Sizes] = field(default_factory=lambda: {"big": WideSizes(99)})
    weight: Amount | None = 5.0


def planned(*written: str) -> Plan:
    return with_settings(Plan(), parse_settings(written))


def test_settings_reach_stages_and_sizes() -> None:
    plan = planned("images=50", "stage.learning_rate=1e-4", "weight=none", "stage.steps=7", "sizes.width=16")
    assert (plan.images, plan.stage.learning_rate, plan.weight, plan.stage.steps) == (50, 1e-4, None, 7)
    assert plan.sizes == Sizes(16) and plan.stage.batch_size == 4


def test_a_part_in_a_mapping_keeps_its_own_type() -> None:
    assert planned("more.big.height=5").more == {"big": WideSizes(99, height=5)}
    with pytest.raises(ValueError, match=r"more\.small: there is no 'small' here, only big"):
        planned("more.small.height=5")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("images", "key=value"),
        ("image=3", "there is no 'image' here, only stage, sizes, images, more, weight"),
        ("stage.step=3", "stage.step: there is no 'step' here, only steps, batch_size"),
        ("images.steps=3", "images must be a whole number"),
        ("sizes.width=False", "sizes.width must be a whole number, got False"),
        ("more.big.width=none", "more.big.width must be a whole number|valid integer"),
        ("images=many", "images must be a whole number, got 'many'"),
        ("images=none", "images must be a whole number"),
        ("images=1.5", "images must be a whole number"),
        ("images=False", "images must be a whole number, got False"),
        ("images=-1", "images: input should be greater than or equal to 0, got -1"),
        ("stage.learning_rate=fast", "stage.learning_rate must be a number, got 'fast'"),
        ("stage.learning_rate=False", "stage.learning_rate must be a number, got False"),
        ("stage.ema_decay=2", "stage.ema_decay: input should be less than or equal to 1"),
        ("stage=3", "stage has parts: set one of them, steps, batch_size"),
    ],
)
def test_wrong_settings_are_explained(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planned(setting)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"stage\.steps must be.*stage\.batch_size must be"):
        planned("stage.steps=b", "stage.batch_size=c")


@given(st.integers(1, 10**6), st.floats(1e-6, 1), st.one_of(st.none(), st.floats(0.1, 10)))
@settings(deadline=None, max_examples=30)
def test_settings_can_be_told_back(steps: int, rate: float, weight: float | None) -> None:
    told = "none" if weight is None else str(weight)
    plan = planned(f"stage.steps={steps}", f"stage.learning_rate={rate}", f"weight={told}")
    assert planned(*differences(plan, Plan())) == plan
    assert list(differences(Plan(), Plan())) == []


def test_a_file_holds_settings_and_later_settings_count_more(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("images: 20\nweight: none\nstage:\n  steps: 9\n  learning_rate: 1e-5\n")
    plan = with_settings(Plan(), read_settings(file), parse_settings(["stage.steps=11"]))
    assert (plan.images, plan.weight, plan.stage.steps, plan.stage.learning_rate) == (20, None, 11, 1e-5)
    file.write_text("")
    assert with_settings(Plan(), read_settings(file)) == Plan()


@pytest.mark.parametrize(("text", "message"), [("a: [1", "is no YAML"), ("- 1", "must hold settings by their names")])
def test_files_that_hold_no_settings_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(file)


def test_former_names_are_still_taken_with_a_note() -> None:
    given, notes = renamed({"old": {"steps": 2}, "stage": {"batch_size": 3}, "images": 4}, {"old": "stage"})
    assert given == {"stage": {"steps": 2, "batch_size": 3}, "images": 4}
    assert notes == ["old is called stage now."]
