import json
import runpy
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.processes import ForkedPopen, forked_run, python, start
from versatile_diffusion import VersatileDiffusionPipeline, bench
from versatile_diffusion.bench import (
    IF_NAMED,
    NAMES,
    generation,
    memory,
    picture,
    run,
    startup,
    training,
    training_peer,
)
from versatile_diffusion.bench.image_job import IMAGE, ImageJob
from versatile_diffusion.bench.optimus import official_loop, random_optimus
from versatile_diffusion.bench.peer_model import done, peer_folder
from versatile_diffusion.bench.report import Figure, Report
from versatile_diffusion.bench.sizes import FLOWS
from versatile_diffusion.bench.timing import alternate
from versatile_diffusion.bundled import DRAWN_WORLD
from versatile_diffusion.model_presets import tiny
from versatile_diffusion.worlds.registry import get_world

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
IN_PROCESSES = ("loading", "picture")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")


@pytest.fixture(scope="module")
def report(session_pipe: VersatileDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """What is measured in this process, and start-up: the work is that of the command, but there is less of it."""
    folder = tmp_path_factory.mktemp("bench")
    session_pipe.save_pretrained(folder / "model")
    json_path = folder / "figures" / "out.json"
    names = [name for name in NAMES if name not in (*IN_PROCESSES, "compiled")]
    recipe = get_world(DRAWN_WORLD).recipe()
    smaller = replace(recipe, four_flow=replace(recipe.four_flow, batch_size=16))
    with pytest.MonkeyPatch.context() as less:
        less.setattr(subprocess, "Popen", ForkedPopen)
        less.setattr(subprocess, "run", forked_run)
        less.setattr(startup, "compile_byte_code", lambda works: None)
        less.setattr(generation, "_BATCHES", (1, 3))
        shorter = {name: {**each, "num_inference_steps": 2} for name, each in generation.SAMPLING_PRESETS.items()}
        less.setattr(generation, "SAMPLING_PRESETS", shorter)
        less.setattr(training, "get_world", lambda name: SimpleNamespace(recipe=lambda: smaller))
        less.setattr(memory, "FLOWS", FLOWS[:1])
        for name, value in (("SIZES", tiny().diffuser), ("PICTURES", 8), ("BATCH", 4), ("_TOLERANCE", 10)):
            less.setattr(training_peer, name, value)
        return run(names, 1, json_path, model=str(folder / "model"), steps=2, preset=tiny()), json_path


@pytest.fixture(scope="module")
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, list[str]]:
    """What is measured in processes of their own, and what was told of the progress."""
    told: list[str] = []
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as quick:
        quick.setattr(subprocess, "Popen", ForkedPopen)
        quick.setattr(subprocess, "run", forked_run)
        return run(["sizes", *IN_PROCESSES], 1, steps=3, cache=cache, preset=tiny(), progress=told.append), told


def test_every_benchmark_reports_what_it_measured(report: tuple[Report, Path]) -> None:
    found, json_path = report
    written = json.loads(json_path.read_text())
    assert list(written["benchmarks"]) == list(found.results)
    assert written["settings"]["rounds"] == 1
    assert written["machine"]["versions"]["torch"] == torch.__version__
    for benchmark in written["benchmarks"].values():
        for figure in benchmark["figures"].values():
            assert figure["rounds"] and min(figure["rounds"]) <= figure["median"] <= max(figure["rounds"])
            assert figure["median"] > 0


def test_targets_are_judged(report: tuple[Report, Path]) -> None:
    figures = {figure.name: figure for result in report[0].results.values() for figure in result.figures}
    limited = [name for name, figure in figures.items() if figure.reached is not None]
    assert {"vd --help", "1 picture", "4 texts of one picture", "official loop / ours"} <= set(limited)
    assert Figure("", "s", [1, 2, 9], at_most=2).reached is True
    assert Figure("", "s", [1, 2, 9], at_least=2.5).reached is False


@pytest.mark.slow
def test_compiled_networks_are_compared() -> None:
    compiled = start(python, "-m", "tests.unit.bench.compiled_bench")  # checks of shapes cannot be traced
    assert compiled.returncode == 0, compiled.stderr
    found = json.loads(compiled.stdout)
    first = {name: figure["median"] for name, figure in found["figures"].items() if name.startswith("first step")}
    assert len(first) == 4 and min(first.values()) > 0
    assert "diffusers, OpenVINO / ours, packed" in found["figures"]
    assert found["figures"]["diffusers, compiled / ours, packed"]["at_least"] == 1


@LINUX
@pytest.mark.slow
def test_only_the_tensors_of_the_flow_are_counted_as_needed(in_processes: tuple[Report, list[str]]) -> None:
    results = in_processes[0].results
    sizes, loading = ({f.name: f.median for f in results[name].figures} for name in ("sizes", "loading"))
    assert loading["as fp16: needed"] == sizes["text-to-image"] < sizes["all flows"]
    assert loading["as fp32: needed"] == pytest.approx(2 * loading["as fp16: needed"], rel=0.01)
    assert loading["diffusers' folder as fp16: diffusers / ours"] > 0


@LINUX
@pytest.mark.slow
def test_a_whole_picture_beside_diffusers(in_processes: tuple[Report, list[str]]) -> None:
    report, told = in_processes
    figures = {figure.name: figure for figure in report.results["picture"].figures}
    ratios = {name: figure for name, figure in figures.items() if figure.unit == "×"}
    assert len(ratios) == 4 and len(figures) == 12
    assert all(figure.median > 0 for figure in figures.values())
    ours, theirs = (figures[f"picture: {who}"].median for who in ("ours", "diffusers, all flows"))
    assert ratios["picture: diffusers / ours"].median == pytest.approx(theirs / ours)
    for who in ("ours", "diffusers, all flows"):
        assert [line for line in told if line.endswith("step 3 of 3") and f"by {who}," in line]


@LINUX
@pytest.mark.slow
def test_a_job_is_done_in_a_process_of_its_own_which_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer_folder(None, tiny()) as folder:
        steps: list[int] = []
        found = done(ImageJob("ours", str(folder), "fp32", pixels=32, steps=2), steps.append)
        assert steps == [1, 2] and found.keys() == {"opening", "making", "peak", "peak_anonymous"}
    monkeypatch.setattr(subprocess, "Popen", ForkedPopen)
    with pytest.raises(RuntimeError, match=r"(?s)image_job .* failed: .*nowhere"):
        done(ImageJob("ours", "nowhere", "fp32", pixels=32, steps=0))


def test_pictures_that_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jobs: list[ImageJob] = []

    def done(job: ImageJob) -> dict[str, float]:
        jobs.append(job)
        assert job.output is not None
        save_file({IMAGE: torch.rand(1, 8, 8, 3)}, job.output)
        return {}

    monkeypatch.setattr(picture, "done", done)
    monkeypatch.setattr(picture, "peer_folder", lambda *_: nullcontext(tmp_path))
    with pytest.raises(RuntimeError, match="differ by"):
        run(["picture"], 1, preset=tiny())
    assert [job.who for job in jobs] == ["ours", "diffusers, all flows"]
    assert jobs[0].seed == jobs[1].seed and jobs[0].steps == 2


def test_pictures_are_made_only_if_that_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def module(name: str) -> SimpleNamespace:
        return SimpleNamespace(measure=lambda settings: measured.append(name.rpartition(".")[2]))

    monkeypatch.setattr(bench, "import_module", module)
    run()
    assert measured == [name for name in NAMES if name not in IF_NAMED]


@pytest.mark.slow
def test_the_table_of_gpus_on_a_cpu(tmp_path: Path) -> None:
    found = tmp_path / "gpu.json"
    options = ["--device", "cpu", "--tiny", "--steps", "1", "--rounds", "1", "--dtype", "bf16", "--no-compiled"]
    options += ["--batch", "1", "--batch", "2"]
    ran = forked_run([sys.executable, BENCHMARKS / "gpu.py", "--json", found, *options])
    assert ran.returncode == 0, ran.stderr
    parts = json.loads(found.read_text())["benchmarks"]
    assert list(parts) == ["one picture, bf16", "batches, bf16"]
    one, batches = ({name: each["median"] for name, each in part["figures"].items()} for part in parts.values())
    assert not [name for part in parts.values() for name in part["settings"] if "failed" in name or "ended" in name]
    for way in ("ours, eager", "ours, channels_last", "diffusers, eager"):
        assert one[f"{way}: rate"] == pytest.approx(1 / one[way])
    assert batches["diffusers, eager: batches of 2"] > 0


def test_the_curve_of_batches(report: tuple[Report, Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plots = runpy.run_path(str(BENCHMARKS / "plots.py"))
    drawn = tmp_path / "batches.png"
    plots["main"](report[1], drawn)
    assert Image.open(drawn).width > 300
    with pytest.raises(ValueError, match="no rates"):
        plots["plot_batches"]({"benchmarks": {}}, drawn)


def test_bytes_of_the_official_flows() -> None:
    [result] = run(["sizes"], 1).results.values()
    assert {figure.name: figure.median for figure in result.figures} == {
        "text-to-image": 2133650262,
        "image-variation": 2494282070,
        "image-to-text": 4508828800,
        "text-variation": 4148196992,
        "all flows": 6638377942,
    }


def test_the_official_loop_is_compared_on_sentences_that_vary() -> None:
    config = tiny().text.autoencoder
    assert config is not None
    model = random_optimus(config)
    latents = torch.randn(3, model.latent_dim, generator=torch.Generator().manual_seed(0))
    sentences = official_loop(model, latents, bos=97, tokens=12)
    assert sentences == model.generate(latents, bos=97, eos=None, max_tokens=12, temperature=0)
    assert len({tuple(sentence) for sentence in sentences}) == 3
    assert all(len(set(sentence)) > 3 for sentence in sentences)


def test_works_take_turns() -> None:
    calls: list[str] = []
    works = {name: lambda number, name=name: calls.append(f"{name}{number}") for name in "ab"}
    found = alternate(works, rounds=3)
    assert calls == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert [len(runs) for runs in found.values()] == [3, 3]


def test_unknown_names_and_no_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="generation"):
        run(["pictures"])
    with pytest.raises(ValueError, match="one round"):
        run(["sizes"], 0)
