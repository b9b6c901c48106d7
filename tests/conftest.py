# ruff: noqa: E402 - the order matters
from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before PyTorch counts the cores
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that asks the network is wrong

from jaxtyping import install_import_hook

import tests.typechecking  # noqa: F401 - named below

install_import_hook("versatile_diffusion", "tests.typechecking.typechecker")  # before the package is imported

import gc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import settings
from PIL import Image
from xdist.scheduler import LoadScopeScheduling

from tests import processes

if TYPE_CHECKING:  # imported by the tests alone: the process that gives them out to others would wait for it
    from versatile_diffusion import VersatileDiffusionPipeline


class ByFile(LoadScopeScheduling):
    """Gives the tests of a file to one worker, so that what they share is made once; browser tests share a studio."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    return ByFile(config, log) if config.getoption("dist") == "loadgroup" else None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Has all workers share the server of `tests.processes`."""
    node.workerinput["forkserver"] = processes.server()


def pytest_configure(config: pytest.Config) -> None:
    if "forkserver" in (given := getattr(config, "workerinput", {})):
        processes.use_server(given["forkserver"])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has groups with many slow tests begin first and small ones last, so that no worker is alone at the end."""
    slow, all_of_them = Counter[str](), Counter[str]()
    for item in items:
        slow[group(item.nodeid)] += item.get_closest_marker("slow") is not None
        all_of_them[group(item.nodeid)] += 1
    items.sort(key=lambda item: (-slow[group(item.nodeid)], -all_of_them[group(item.nodeid)], group(item.nodeid)))


def pytest_collection_finish() -> None:
    """Has Python look for garbage no more among what was imported, which stays."""
    gc.collect()
    gc.freeze()


def group(nodeid: str) -> str:
    file = nodeid.partition("::")[0]
    return "tests/browser" if file.startswith("tests/browser/") else file


settings.register_profile("untimed", deadline=None, max_examples=50)
settings.load_profile("untimed")

CAPTIONS = (
    "a red tent in the meadow, at night",
    "a blue lighthouse by the sea",
    "an oil painting of a yellow windmill in the snow",
    "a green house and a tree",
)


@pytest.fixture(scope="session", autouse=True)
def short_previews() -> Iterator[None]:
    """What is shown of a training run is little, here as in the processes that tests start."""
    with pytest.MonkeyPatch.context() as shorter:
        processes.shorten(shorter.setattr)
        yield


@pytest.fixture(scope="session")
def session_pipe() -> VersatileDiffusionPipeline:
    """All four flows at the smallest size, with random weights everywhere."""
    from versatile_diffusion import VersatileDiffusionPipeline
    from versatile_diffusion.modalities import TextModality
    from versatile_diffusion.modalities.vocabulary import word_tokenizers
    from versatile_diffusion.model_presets import build, clip_text, optimus, tiny

    tokenizers = word_tokenizers(CAPTIONS)
    sizes = [len(getattr(tokenizers, name)) for name in ("clip", "bert", "gpt2")]
    preset = tiny()
    text = replace(
        preset.text,
        autoencoder=optimus(32, 2, pieces=sizes[1], tokens=sizes[2], latent=48, positions=(96, 48), heads=4),
        context_encoder=clip_text(32, 1, tokens=sizes[0], positions=16, projection=24, heads=4),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        components = build(preset.with_modalities(text=text))
        for parameter in components.diffuser.parameters():
            if not parameter.any():  # zero at the start of training, where contexts would not matter
                torch.nn.init.normal_(parameter, std=0.05)
    modality = components.modalities["text"]
    assert isinstance(modality, TextModality)
    modality.tokenizers = tokenizers
    pipe = VersatileDiffusionPipeline(components.diffuser, components.scheduler, components.modalities)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture
def pipe(session_pipe: VersatileDiffusionPipeline) -> Iterator[VersatileDiffusionPipeline]:
    """The pipeline, with whatever a test does to its scheduler undone."""
    scheduler = session_pipe.scheduler
    yield session_pipe
    session_pipe.scheduler = scheduler


@pytest.fixture(scope="session")
def bundled() -> VersatileDiffusionPipeline:
    """The bundled model, for what only a trained one can show."""
    from versatile_diffusion import VersatileDiffusionPipeline

    return VersatileDiffusionPipeline.from_pretrained("postcards")


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A gradient with a bright square, 40 wide and 30 high."""
    image = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    image.paste((250, 120, 30), (5, 8, 20, 24))
    return image


@pytest.fixture(scope="module")
def model(session_pipe: VersatileDiffusionPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a saved model, for commands."""
    folder = tmp_path_factory.mktemp("models") / "model"
    session_pipe.save_pretrained(folder)
    return folder
