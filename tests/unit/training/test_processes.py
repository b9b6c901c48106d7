"""Training in several processes."""

import shutil
import time
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.processes import Running, together
from versatile_diffusion.training.loop.checkpoint import checkpoints
from versatile_diffusion.training.loop.metric_logger import read_log

from . import diffuser_runs


@pytest.mark.slow
def test_two_processes_leave_the_gradients_of_one_with_twice_the_batch(tmp_path: Path) -> None:
    path = tmp_path / "gradients.safetensors"
    for process in together(diffuser_runs.save_gradients, str(path), "3"):
        assert process.returncode == 0, process.stderr
    two, one = load_file(path), diffuser_runs.gradients(batch_size=6)
    assert two.keys() == one.keys()
    largest = max(float(gradient.abs().max()) for gradient in one.values())
    for name, expected in one.items():  # biases before a normalisation have gradients of nothing but rounding
        torch.testing.assert_close(
            two[name], expected, rtol=1e-5, atol=1e-6 * largest, msg=lambda m, n=name: f"{n}: {m}"
        )


def finished(running: list[Running]) -> None:
    for process in running:
        assert process.returncode == 0, process.stderr
        assert "Warning" not in process.stderr


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, of six samples."""
    folder = tmp_path_factory.mktemp("alone")
    diffuser_runs.train_branches(str(folder), "6")
    return folder


def require_equal(one: Path, other: Path) -> None:
    first, second = (load_file(folder / "averaged.safetensors") for folder in (one, other))
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, rtol=0, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.slow
def test_two_processes_that_share_a_diffuser_out_train_it_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    finished(together(diffuser_runs.train_flows, str(tmp_path / "two"), "3"))
    diffuser_runs.train_flows(str(tmp_path / "one"), "6")
    require_equal(tmp_path / "two", tmp_path / "one")
    logs = [read_log(tmp_path / run / "log.jsonl") for run in ("two", "one")]
    assert len(logs[0]) == 3
    for two, one in zip(*logs, strict=True):
        for flow in ("text-to-image", "image-to-text"):
            assert two[flow] == pytest.approx(one[flow], abs=1e-5)


@pytest.mark.slow
def test_a_checkpoint_of_two_processes_is_read_by_any_number(alone: Path, tmp_path: Path) -> None:
    finished(together(diffuser_runs.train_branches, str(tmp_path / "2"), "3"))
    require_equal(tmp_path / "2", alone)
    begun = tmp_path / "2" / "step-00000010"
    assert len(list(begun.glob("*.safetensors"))) == 2, "each process writes what it holds"
    for count, batch_size in ((1, "6"), (3, "2")):
        shutil.copytree(begun, tmp_path / str(count) / begun.name)
        finished(together(diffuser_runs.train_branches, str(tmp_path / str(count)), batch_size, count=count))
        require_equal(tmp_path / str(count), alone)
    shutil.copytree(begun, tmp_path / "plain" / begun.name)  # a process that nobody launched as one of several
    with warnings.catch_warnings(record=True) as told:
        diffuser_runs.train_branches(str(tmp_path / "plain"), "6")
    require_equal(tmp_path / "plain", alone)
    assert not [each for each in told if "distributed" in str(each.message)]


@pytest.mark.slow
def test_a_rank_that_is_killed_leaves_the_last_checkpoint_whole(alone: Path, tmp_path: Path) -> None:
    for moment in ("step-00000010", ".unfinished"):
        running = together(diffuser_runs.train_branches, str(tmp_path), "3")
        while not (tmp_path / moment).exists() and running[1].is_running:
            time.sleep(0.001)
        for process in reversed(running):
            process.kill()
    assert [path.name for path in checkpoints(tmp_path)][:1] == ["step-00000010"]
    finished(together(diffuser_runs.train_branches, str(tmp_path), "3"))
    require_equal(tmp_path, alone)


@pytest.mark.slow
def test_two_processes_take_steps_in_all_ways_as_one_does(tmp_path: Path) -> None:
    finished(together(diffuser_runs.train_in_all_ways, str(tmp_path / "two"), "192"))
    for way in diffuser_runs.WAYS:  # what two have begun, one finishes as well
        begun = Path(way, "step-00000003")
        shutil.copytree(tmp_path / "two" / begun, tmp_path / "half" / begun)
    for run in ("one", "half"):
        diffuser_runs.train_in_all_ways(str(tmp_path / run), "384")
    start = diffuser_runs.Branches(width=128).model.state_dict()
    for way in diffuser_runs.WAYS:
        one, two, half = (load_file(tmp_path / run / way / "averaged.safetensors") for run in ("one", "two", "half"))
        tolerances = {"accumulate": 1e-4, "muon": 1e-3, "muon-whole": 1e-3, "adamw-8bit": 0.01}
        tolerance = tolerances.get(way, 0.1)  # the others round to half precision
        for name, weight in one.items():
            change = (weight - start[name]).norm()
            for other in (two, half):
                assert (other[name] - weight).norm() < tolerance * change, (way, name)
