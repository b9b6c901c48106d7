import json
import sys
from pathlib import Path

import pytest
import torch

from versatile_diffusion import VersatileDiffusionPipeline
from versatile_diffusion.bench import NAMES, run
from versatile_diffusion.bench.optimus import official_loop, random_optimus
from versatile_diffusion.bench.report import Figure, Report
from versatile_diffusion.bench.timing import alternate
from versatile_diffusion.presets import tiny


@pytest.fixture(scope="module")
def report(session_pipe: VersatileDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("bench")
    session_pipe.save_pretrained(folder / "model")
    json_path = folder / "out.json"
    names = NAMES if sys.platform == "linux" else [name for name in NAMES if name != "loading"]
    found = run(names, 1, json_path, model=str(folder / "model"), steps=2, cache=folder / "cache", preset=tiny())
    return found, json_path


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


def test_only_the_tensors_of_the_flow_are_counted_as_needed(report: tuple[Report, Path]) -> None:
    if "loading" not in report[0].results:
        pytest.skip("measured on Linux only")
    sizes, loading = ({f.name: f.median for f in report[0].results[name].figures} for name in ("sizes", "loading"))
    assert loading["as fp16: needed"] == sizes["text-to-image"] < sizes["all flows"]
    assert loading["as fp32: needed"] == pytest.approx(2 * loading["as fp16: needed"], rel=0.01)


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
