import pytest
import torch
from torch import Generator

from versatile_diffusion.modalities.optimus import Optimus

_BOS, _EOS = 18, 19


@pytest.fixture(scope="module")
def optimus() -> Optimus:
    torch.manual_seed(0)
    bert = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 16, "max_position_embeddings": 16}  # fmt: skip
    gpt2 = {"vocab_size": 20, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 16}
    return Optimus(bert, gpt2, latent_dim=8).eval()


@pytest.fixture
def latents() -> torch.Tensor:
    return 20 * torch.randn(6, 8, generator=Generator().manual_seed(1))


def _generators(number: int) -> list[Generator]:
    return [Generator().manual_seed(seed) for seed in range(number)]


def test_padding_does_not_change_the_posterior(optimus: Optimus) -> None:
    short = optimus.posterior(torch.tensor([[2, 5, 3]]))
    padded = optimus.posterior(torch.tensor([[2, 5, 3, 0, 0]]))
    torch.testing.assert_close(short, padded)


def test_nothing_is_stored_twice(optimus: Optimus) -> None:
    pointers = [tensor.data_ptr() for tensor in optimus.state_dict().values()]
    assert len(set(pointers)) == len(pointers)


def test_gradients_reach_every_weight_of_the_decoder_and_the_latents(optimus: Optimus, latents: torch.Tensor) -> None:
    latents = latents.clone().requires_grad_()
    ids = torch.randint(0, 20, (6, 5), generator=Generator().manual_seed(2))
    optimus.zero_grad()
    optimus.logits(latents, ids).logsumexp(-1).sum().backward()
    trained = [optimus.to_memory.weight, optimus.to_embedding.weight, *optimus.decoder.parameters(), latents]
    assert all(weight.grad is not None and weight.grad.any() for weight in trained)


@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "top_k": 9}, {"top_p": 0.9}, {"temperature": 0}])
def test_a_batch_equals_one_by_one(optimus: Optimus, latents: torch.Tensor, options: dict[str, float]) -> None:
    options = {"bos": _BOS, "eos": _EOS, **options}
    together = optimus.generate(latents, generators=_generators(6), **options)  # pyright: ignore[reportArgumentType]
    alone = [
        optimus.generate(latent[None], generators=[generator], **options)[0]  # pyright: ignore[reportArgumentType]
        for latent, generator in zip(latents, _generators(6), strict=True)
    ]
    assert together == alone
    if options.get("temperature") != 0:
        assert len({len(sentence) for sentence in together}) > 1, "some sentence should end before others"


def test_cached_decoding_takes_the_likeliest_token_of_teacher_forcing(optimus: Optimus, latents: torch.Tensor) -> None:
    sentences = torch.tensor(optimus.generate(latents, bos=_BOS, eos=None, max_tokens=8, temperature=0))
    given = torch.cat([torch.full((6, 1), _BOS), sentences[:, :-1]], dim=1)
    assert torch.equal(optimus.logits(latents, given).argmax(-1), sentences)


def test_top_k_of_one_is_greedy(optimus: Optimus, latents: torch.Tensor) -> None:
    greedy = optimus.generate(latents, bos=_BOS, eos=_EOS, temperature=0)
    assert optimus.generate(latents, bos=_BOS, eos=_EOS, top_k=1, generators=_generators(6)) == greedy


def test_sentences_hold_neither_begin_nor_end_and_stop_where_positions_do(
    optimus: Optimus, latents: torch.Tensor
) -> None:
    sentences = optimus.generate(latents, bos=_BOS, eos=_EOS, max_tokens=99, generators=_generators(6))
    assert all(_EOS not in sentence and len(sentence) <= 15 for sentence in sentences)


def test_sampling_follows_the_distribution(optimus: Optimus, latents: torch.Tensor) -> None:
    expected = optimus.logits(latents[:1], torch.tensor([[_BOS]]))[0, 0].softmax(-1)
    many = latents[:1].expand(2000, -1)
    tokens = optimus.generate(many, bos=_BOS, eos=None, max_tokens=1, generators=_generators(2000))
    seen = torch.tensor(tokens)[:, 0].bincount(minlength=20) / 2000
    torch.testing.assert_close(seen, expected, atol=0.04, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"temperature": -1}, "temperature"), ({"top_k": 0}, "top_k"), ({"generators": []}, "as many generators")],
)
def test_bad_options(optimus: Optimus, latents: torch.Tensor, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        optimus.generate(latents, bos=_BOS, eos=_EOS, **options)
