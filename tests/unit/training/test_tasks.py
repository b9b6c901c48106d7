import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from tests.processes import SHORTER
from tests.unit.training.diffuser_runs import four_flow_task
from versatile_diffusion.modalities.vocabulary import word_tokenizers
from versatile_diffusion.model_presets import build
from versatile_diffusion.training.loop.metric_logger import read_log
from versatile_diffusion.training.loop.task import Task, TrainingConfig
from versatile_diffusion.training.loop.trainer import Trainer, draw
from versatile_diffusion.training.tasks.adversarial_autoencoder import (
    AdversarialAutoencoderTask,
    AutoencoderWithDiscriminator,
    PatchDiscriminator,
)
from versatile_diffusion.training.tasks.clip import ClipPair, ClipTask
from versatile_diffusion.training.tasks.data import differing_in_one
from versatile_diffusion.training.tasks.kl_autoencoder import KLAutoencoderTask, edge_error
from versatile_diffusion.training.tasks.optimus import OptimusTask, OptimusWithWords
from versatile_diffusion.worlds.postcards import VOCABULARY, Postcards
from versatile_diffusion.worlds.postcards.attribute_classifier import AttributeClassifier, AttributeClassifierTask
from versatile_diffusion.worlds.postcards.recipe import tiny_recipe
from versatile_diffusion.worlds.postcards.training_data import PostcardsData

SHOWN = SHORTER["versatile_diffusion.training.tasks.diffuser"]["PREVIEWED"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PostcardsData:
    return PostcardsData(Postcards(3, 8, size=32), tmp_path_factory.mktemp("data"))


@pytest.fixture
def modalities() -> tuple[Any, Any]:
    torch.manual_seed(0)
    image: Any
    text: Any
    image, text = build(tiny_recipe().preset).modalities.values()
    text.tokenizers = word_tokenizers(VOCABULARY)
    return image, text


def optimus_task(text: Any, data: PostcardsData) -> OptimusTask:
    ids = text.encoder_ids(data.texts), text.decoder_ids(data.texts)
    tokenizer = text.tokenizers.gpt2
    return OptimusTask(OptimusWithWords(text.autoencoder), *ids, pad=tokenizer.pad_token_id, tokenizer=tokenizer)


def train(task: Task, folder: Path, steps: int) -> tuple[dict[str, float], dict[str, float]]:
    """The losses of one batch before and after training."""
    config = TrainingConfig(steps, 8, 5e-3, warmup_steps=2)
    batch = task.draw(Generator().manual_seed(0), 32)

    @torch.no_grad()
    def losses() -> dict[str, float]:
        return {name: loss.item() for compute in task.passes(batch) for name, loss in compute().items()}

    before = losses()
    Trainer(task, config, folder).run()
    return before, losses()


def test_the_attribute_classifier_learns(data: PostcardsData, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before, after = train(
        AttributeClassifierTask(AttributeClassifier(size=32), data.images, data.labels), tmp_path, steps=12
    )
    assert after["cross-entropy"] < 0.8 * before["cross-entropy"]


def test_the_image_autoencoder_learns_and_leaves_the_perceptual_network_alone(
    data: PostcardsData, modalities: tuple[Any, Any], tmp_path: Path
) -> None:
    network = AttributeClassifier(size=32)
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    task = KLAutoencoderTask(modalities[0].autoencoder, data.images, network)
    before, after = train(task, tmp_path, steps=12)
    assert after["error"] < 0.9 * before["error"]
    assert all(torch.equal(weights[name], tensor) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    with torch.no_grad():
        picture = task.preview(task.model)["pictures"]
    assert isinstance(picture, Tensor) and picture.shape == (3, 2 * 32, SHOWN * 32)
    original = torch.from_numpy(np.concatenate(list(data.images[:SHOWN]), axis=1)).permute(2, 0, 1) / 255
    torch.testing.assert_close(picture[:, :32], original)


def test_edges_count_only_when_they_are_asked_for(data: PostcardsData, modalities: tuple[Any, Any]) -> None:
    plain, edged = (KLAutoencoderTask(modalities[0].autoencoder, data.images, edge_weight=w) for w in (0.0, 2.0))
    batch = plain.draw(Generator().manual_seed(0), 2)
    (without,), (edges,) = ([compute() for compute in task.passes(batch)] for task in (plain, edged))
    assert list(without) == ["error", "kl"] and list(edges) == ["error", "edges", "kl"]
    assert torch.equal(without["error"], edges["error"])
    image = torch.rand(2, 3, 8, 8)
    assert edge_error(image, image + 0.25).item() == pytest.approx(0, abs=1e-6)
    ramp = torch.linspace(0, 7, 8).expand(1, 3, 8, 8)
    assert edge_error(ramp, torch.zeros_like(ramp)).item() == pytest.approx(0.5)  # 1 to the right, 0 downwards


def test_a_discriminator_learns_beside_the_autoencoder(
    data: PostcardsData, modalities: tuple[Any, Any], tmp_path: Path
) -> None:
    autoencoder = modalities[0].autoencoder
    model = AutoencoderWithDiscriminator(autoencoder, PatchDiscriminator((8, 16)))
    task = AdversarialAutoencoderTask(model, KLAutoencoderTask(autoencoder, data.images, edge_weight=1.0))
    (losses,) = [compute() for compute in task.passes(task.draw(Generator().manual_seed(0), 4))]
    assert list(losses) == ["error", "edges", "kl", "adversarial", "discriminator"]
    scores = [*autoencoder.parameters()], [*model.discriminator.parameters()]
    of_autoencoder, of_discriminator = (losses[name] for name in ("adversarial", "discriminator"))
    given = torch.autograd.grad(of_autoencoder, [*scores[0], *scores[1]], allow_unused=True, retain_graph=True)
    assert all(gradient is None for gradient in given[len(scores[0]) :]) and given[-1 - len(scores[1])] is not None
    given = torch.autograd.grad(of_discriminator, [*scores[0], *scores[1]], allow_unused=True)
    assert all(gradient is None for gradient in given[: len(scores[0])]) and given[-1] is not None
    first = next(model.discriminator.parameters()).clone()
    before, after = train(task, tmp_path, steps=12)
    assert after["error"] < before["error"]
    assert not torch.equal(first, next(model.discriminator.parameters()))
    with torch.no_grad():
        assert task.preview(model)["pictures"].shape == (3, 2 * 32, SHOWN * 32)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="another autoencoder"):
        AdversarialAutoencoderTask(model, KLAutoencoderTask(copy.deepcopy(autoencoder), data.images))


def test_the_context_encoders_learn(data: PostcardsData, modalities: tuple[Any, Any], tmp_path: Path) -> None:
    image, text = modalities
    captions = text.context_ids(data.texts).unflatten(0, (8, -1))
    task = ClipTask(ClipPair(image.context_encoder, text.context_encoder), data.images, captions, data.hard_negatives)
    before, after = train(task, tmp_path, steps=20)
    assert after["contrastive"] < before["contrastive"]


def test_every_second_picture_differs_in_one_attribute_where_there_is_one() -> None:
    labels = torch.cartesian_prod(torch.arange(3), torch.arange(2), torch.arange(4))[:-1]
    others_of = differing_in_one(labels)
    for attribute in range(3):
        differs = labels != labels[others_of[:, attribute]]
        others = [i for i in range(3) if i != attribute]
        assert not differs[:, others].any()
        assert differs[:, attribute].all() == (attribute != 1)  # the last but four lost its only partner
    assert differing_in_one(torch.tensor([[0, 0], [1, 1]])).tolist() == [[0, 0], [1, 1]]


def test_tasks_need_no_perceptual_network_and_no_hard_negatives(
    data: PostcardsData, modalities: tuple[Any, Any]
) -> None:
    image, text = modalities
    autoencoder = KLAutoencoderTask(image.autoencoder, data.images)
    (compute,) = autoencoder.passes(autoencoder.draw(Generator().manual_seed(0), 2))
    assert list(compute()) == ["error", "kl"]
    captions = text.context_ids(list(data.texts)).unflatten(0, (8, -1))[:, :1]
    clip = ClipTask(ClipPair(image.context_encoder, text.context_encoder), data.images, captions)
    drawn = clip.draw(Generator().manual_seed(0), 4)
    (compute,) = clip.passes(drawn)
    assert compute()["contrastive"].isfinite() and len(drawn["images"]) == 4


def test_optimus_learns_and_its_divergence_is_watched(
    data: PostcardsData, modalities: tuple[Any, Any], tmp_path: Path
) -> None:
    task = optimus_task(modalities[1], data)
    before, after = train(task, tmp_path, steps=25)
    assert after["error"] < 0.95 * before["error"] and after["words"] < before["words"]
    assert all(line["kl"] > 0 for line in read_log(tmp_path / "log.jsonl"))  # 0 would be a collapsed posterior
    with torch.no_grad():
        text = task.preview(task.model)["sentences"]
    assert isinstance(text, str) and text.count(" → ") == SHOWN and data.texts[0].lower()[:12] in text


def test_hidden_words_are_never_the_first_and_about_as_many_as_told(
    data: PostcardsData, modalities: tuple[Any, Any]
) -> None:
    hidden = optimus_task(modalities[1], data).draw(Generator().manual_seed(0), 500)["hidden"]
    assert not hidden[:, 0].any()
    assert hidden[:, 1:].float().mean().item() == pytest.approx(0.3, abs=0.03)


def test_the_diffuser_is_previewed_in_every_flow_with_equal_noise() -> None:
    class Echo:
        def __init__(self, decode: object) -> None:
            self.decode = decode

    task = four_flow_task()
    task.modalities = {  # pyright: ignore
        "image": Echo(lambda latents, generators: list(latents[:, :3])),
        "text": Echo(lambda latents, generators: [f"{row.sum():.3f}" for row in latents]),
    }
    with torch.no_grad():
        first, again = task.preview(task.model), task.preview(task.model)
    assert list(first) == ["image-variation", "image-to-text", "text-to-image", "text-variation"]
    for name, shown in first.items():
        assert isinstance(shown, Tensor if name.endswith("image") or name == "image-variation" else str)
        assert torch.equal(shown, again[name]) if isinstance(shown, Tensor) else shown == again[name]  # pyright: ignore
    picture = first["text-to-image"]
    assert isinstance(picture, Tensor) and picture.shape == (3, 2 * 4, SHOWN * 4) and picture.isfinite().all()


def test_every_draw_has_as_many_rows_as_asked_for(data: PostcardsData, modalities: tuple[Any, Any]) -> None:
    image, text = modalities
    captions = text.context_ids(data.texts).unflatten(0, (8, -1))
    tasks = [
        AttributeClassifierTask(AttributeClassifier(size=32), data.images, data.labels),
        KLAutoencoderTask(image.autoencoder, data.images, AttributeClassifier(size=32)),
        ClipTask(ClipPair(image.context_encoder, text.context_encoder), data.images, captions, data.hard_negatives),
        optimus_task(text, data),
    ]
    for task in tasks:
        config = TrainingConfig(1, 5, 1.0)
        batch, again = draw(task, config, 0), draw(task, config, 0)
        assert {len(tensor) for tensor in batch.values()} == {5}
        assert all(torch.equal(batch[name], again[name]) for name in batch)
