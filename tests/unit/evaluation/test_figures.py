"""What is told of images: every figure with its interval and how it was measured, beside the paper's."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from torch.nn.functional import normalize

from versatile_diffusion.evaluation.clip import ClipNetwork, model_clip
from versatile_diffusion.evaluation.estimates import bootstrap
from versatile_diffusion.evaluation.exhibition import Exhibit, Section
from versatile_diffusion.evaluation.fid import frechet_of_features
from versatile_diffusion.evaluation.figures import EvaluationReport, FlowFigures
from versatile_diffusion.evaluation.image_measures import ImageNetworks, ImageSet, image_figures, look_at_images
from versatile_diffusion.evaluation.inception import Inception

COUNT = 30


@pytest.fixture
def clip(model: Path) -> ClipNetwork:
    return model_clip(str(model), torch.device("cpu"))


def drawn(seed: int) -> ImageSet:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(COUNT, 12, generator=draw) + seed
    return ImageSet(normalize(features, dim=-1), features, Counter({(64, 64): COUNT}))


def test_the_fid_stands_beside_the_papers(clip: ClipNetwork) -> None:
    real, made, done = drawn(0), drawn(1), list[int]()
    with torch.device("meta"):
        networks = ImageNetworks(clip, Inception(), 256)
    figures = image_figures(real, made, real.clip, networks, bootstrap(COUNT, 5, 0), done.append)
    assert [figure.name for figure in figures] == ["FID", "CLIP-FID", "CMMD", "CLIP score"]
    assert sum(done) == 2 * (5 + 1)
    assert real.inception is not None and made.inception is not None
    assert figures[0].estimate.value == pytest.approx(frechet_of_features(real.inception, made.inception))
    assert all(figure.estimate.interval for figure in figures)
    section = Section("text-to-image", [Exhibit((Image.new("RGB", (8, 8)),), "a tent")], 1)
    report = EvaluationReport({"N": "30"}, [FlowFigures("text-to-image", {"steps": "50"}, figures, section)])
    console = Console(width=400, record=True)
    for table in report.tables():
        console.print(table)
    shown = console.export_text()
    assert "11.10 ± 0.09 (VD, four flows)" in shown and "arXiv 2211.08332" in shown and clip.name in shown
    assert "Inception-v3 (random weights), 256×256" in shown and "steps" in shown
    told = report.as_dict()
    assert told["protocol"] == {"N": "30"} and "published" in str(told["flows"]) and report.drawing()[:4] == b"\x89PNG"


def test_images_whose_features_are_no_numbers_are_named(clip: ClipNetwork) -> None:
    networks, images = (
        ImageNetworks(clip, None, 256),
        [("a.png", torch.rand(3, 20, 30)), ("b.png", torch.rand(3, 9, 9))],
    )
    done: list[int] = []
    seen = look_at_images(iter(images), networks, done.append)
    assert seen.clip.norm(dim=-1).tolist() == pytest.approx([1, 1]) and seen.inception is None and done == [2]
    assert seen.told_sizes == "30×20 and 1 other sizes"
    clip.vision.visual_projection.weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"The features of a.png are NaN or infinite"):
        look_at_images(iter(images), networks, done.append)
