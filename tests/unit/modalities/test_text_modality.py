import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator
from transformers import PreTrainedTokenizerFast

from versatile_diffusion.diffuser.plan import DiffuserConfig, Plan
from versatile_diffusion.modalities.text import TextModality
from versatile_diffusion.modalities.vocabulary import word_tokenizers

_CAPTIONS = ["A red tent in the meadow, at night.", "A blue lighthouse by the sea!", "An oil painting: a windmill."]


@pytest.fixture(scope="module")
def text() -> TextModality:
    torch.manual_seed(0)
    tokenizers = word_tokenizers(_CAPTIONS)
    clip, bert, gpt2 = (len(getattr(tokenizers, name)) for name in ("clip", "bert", "gpt2"))
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    modality = TextModality(
        autoencoder={
            "bert": {**small, "vocab_size": bert, "max_position_embeddings": 32},
            "gpt2": {"vocab_size": gpt2, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 24},
            "latent_dim": 8,
        },
        context_encoder={
            **small,
            "vocab_size": clip,
            "max_position_embeddings": 12,
            "projection_dim": 10,
            "bos_token_id": clip - 2,
            "eos_token_id": clip - 1,
        },
        latent_dim=8,
    ).eval()
    modality.tokenizers = tokenizers
    return modality


def test_sizes(text: TextModality) -> None:
    assert text.context_shape == (12, 10)
    assert text.latent_shape() == (8,)
    layers = text.data_layers(Plan.of(DiffuserConfig(32, (1,), (1,), (True,), 2)))
    assert (layers.latent_dim, layers.positions) == (8, 4)
    with pytest.raises(ValueError, match="no height"):
        text.latent_shape(height=64)


def test_reading(text: TextModality) -> None:
    assert text.read("a") == ["a"]
    assert text.read(("a", "")) == ["a", ""]


@pytest.mark.parametrize("data", [3, ["a", 3], b"a", None, {"a": 1}])
def test_what_is_no_text(text: TextModality, data: Any) -> None:
    with pytest.raises(TypeError, match="must be a str"):
        text.read(data)


def test_latents_are_means_whatever_the_batch_and_the_case(text: TextModality) -> None:
    latents = text.encode(_CAPTIONS)
    assert latents.shape == (3, 8)
    alone = torch.cat([text.encode([caption.upper()]) for caption in _CAPTIONS])
    torch.testing.assert_close(latents, alone, rtol=1e-4, atol=1e-5)


def test_ids_play_their_roles(text: TextModality) -> None:
    bert, gpt2, clip = text.tokenizers.bert, text.tokenizers.gpt2, text.tokenizers.clip
    assert bert is not None and gpt2 is not None and clip is not None
    short, long = text.encoder_ids(["the sea", _CAPTIONS[0]])
    assert (short[0], short[3], short[-1]) == (bert.cls_token_id, bert.sep_token_id, 0)
    assert long[-1] == bert.sep_token_id
    short, long = text.decoder_ids(["The sea", _CAPTIONS[0]])
    assert (short[0], short[3], short[-1]) == (gpt2.bos_token_id, gpt2.eos_token_id, gpt2.pad_token_id)
    assert long[-1] == gpt2.eos_token_id
    (empty,) = text.context_ids([""])
    assert empty.tolist() == [clip.bos_token_id] + [clip.eos_token_id] * 11
    assert clip.eos_token_id == len(clip) - 1


def test_decoder_ids_decode_to_the_text(text: TextModality) -> None:
    assert text.tokenizers.gpt2 is not None
    (ids,) = text.decoder_ids([_CAPTIONS[0]])
    assert text.tokenizers.gpt2.decode(ids, skip_special_tokens=True) == _CAPTIONS[0].lower()


def test_long_texts_fit_every_part(text: TextModality) -> None:
    long = " ".join(["tent sea"] * 5000)
    assert text.encode([long]).isfinite().all()
    assert text.decoder_ids([long]).shape == (1, 23)
    with pytest.warns(UserWarning, match="9978 more"):
        assert text.embed([long]).shape == (1, 12, 10)


def test_decoding_depends_on_the_generator_alone(text: TextModality) -> None:
    latents = torch.randn(4, 8, generator=Generator().manual_seed(0))
    together = text.decode(latents, [Generator().manual_seed(seed) for seed in range(4)])
    alone = [text.decode(latent[None], [Generator().manual_seed(seed)])[0] for seed, latent in enumerate(latents)]
    assert together == alone
    assert len(set(together)) > 1
    assert not any("<" in sentence or " ," in sentence for sentence in together)


def test_decoding_options(text: TextModality) -> None:
    latents = torch.randn(2, 8, generator=Generator().manual_seed(0))
    assert text.decode(latents, temperature=0) == text.decode(latents, temperature=0)
    assert all(len(sentence.split()) <= 3 for sentence in text.decode(latents, max_tokens=3))


def test_cut_words_are_named(text: TextModality) -> None:
    with pytest.warns(UserWarning, match='left out: "sea. The end"'):
        text.embed(["a red tent in the meadow, at night by sea. The end"])


def test_unknown_words_are_named_once(text: TextModality) -> None:
    with pytest.warns(UserWarning, match='does not know: "Zebra dragon"') as caught:
        text.embed(["a Zebra, a dragon, a Zebra", "a Zebra, a dragon, a Zebra"])
    assert len(caught) == 1


def test_the_nearest_words_are_named(text: TextModality) -> None:
    with pytest.warns(UserWarning, match=r'does not know: "Medow zebra"\. The nearest that it knows: meadow\.$'):
        text.embed(["a red tent in the Medow, a zebra"])


def test_known_texts_give_no_warning(text: TextModality) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text.embed([*_CAPTIONS, ""])


def test_threads_do_not_disturb_each_other(text: TextModality, monkeypatch: pytest.MonkeyPatch) -> None:
    settle = PreTrainedTokenizerFast.set_truncation_and_padding

    def settle_slowly(self: PreTrainedTokenizerFast, *arguments: Any, **options: Any) -> None:
        settle(self, *arguments, **options)
        time.sleep(0.001)  # long enough for another thread to set something else before this one reads its texts

    alone = text.context_ids(["a red tent"])
    monkeypatch.setattr(PreTrainedTokenizerFast, "set_truncation_and_padding", settle_slowly)
    with ThreadPoolExecutor(4) as threads:
        for together in threads.map(text.context_ids, [["a red tent"]] * 20):
            assert torch.equal(together, alone)


def test_the_end_token_has_unit_length_in_context(text: TextModality) -> None:
    tokens = text.embed(["the sea"])
    torch.testing.assert_close(tokens[0, 3].norm(), torch.tensor(1.0))
    torch.testing.assert_close(text.unconditional("image"), text.embed([""]))


def test_texts_have_no_masks(text: TextModality) -> None:
    with pytest.raises(ValueError, match="no masks"):
        text.embed(["the sea"], masks=torch.ones(2, 2))


def test_assets_come_back(text: TextModality, tmp_path: Path) -> None:
    text.save_assets(tmp_path)
    other = TextModality(autoencoder=text.config["autoencoder"], context_encoder=text.config["context_encoder"],
                         latent_dim=8)  # fmt: skip
    other.load_state_dict(text.state_dict())
    other.eval()
    other.load_assets(tmp_path)
    assert torch.equal(other.embed(_CAPTIONS), text.embed(_CAPTIONS))
    latents = text.encode(_CAPTIONS)
    assert torch.equal(other.encode(_CAPTIONS), latents)
    assert other.decode(latents, temperature=0) == text.decode(latents, temperature=0)


def test_only_what_is_there_is_loaded(tmp_path: Path) -> None:
    text = TextModality()
    text.load_assets(tmp_path)
    assert text.tokenizers.clip is None
    with pytest.raises(RuntimeError, match="not loaded: load the model with a flow"):
        text.embed(["the sea"])
    with pytest.raises(RuntimeError, match="not loaded"):
        text.encode(["the sea"])


def test_the_latent_has_one_size() -> None:
    with pytest.raises(ValueError, match="latent_dim"):
        TextModality(autoencoder={"bert": {}, "gpt2": {}, "latent_dim": 4}, latent_dim=8)
