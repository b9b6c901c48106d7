"""Texts: Optimus, CLIP's text transformer and fully connected data layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config  # pyright: ignore[reportUnknownVariableType] - untyped
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerBase

from versatile_diffusion.diffuser.data_layers import FullyConnectedLayers
from versatile_diffusion.diffuser.plan import Plan
from versatile_diffusion.modalities import text_encoders
from versatile_diffusion.modalities.base import OFFICIAL_GUIDANCE_SCALE
from versatile_diffusion.modalities.clip import ClipTextEncoder
from versatile_diffusion.modalities.optimus import Optimus
from versatile_diffusion.modalities.parts import ModalityOfParts, loaded
from versatile_diffusion.modalities.phrases import remove_repetition
from versatile_diffusion.modalities.text_encoders import T5TextEncoder, TextEncoder
from versatile_diffusion.modalities.text_spec import TEXT, read_texts
from versatile_diffusion.modalities.vocabulary import Tokenizers, nearest_words, parts_words, present, tokenized
from versatile_diffusion.validation import shortened

_WORD_PIECES = 77  # most that Optimus is given, besides [CLS] and [SEP]
_NAMED, _SHOWN = 12, 200  # words and characters that a warning quotes


class TextModality(ModalityOfParts[str]):
    """Texts. Items are str.

    Its tokenizers are assets: set `tokenizers`, or load them with `load_assets`.

    Args:
        autoencoder: arguments of `Optimus`; None leaves it out.
        context_encoder: a transformers CLIPTextConfig as a dict, or a T5Config or ClapTextConfig with its
            "model_type"; None leaves it out.
        positions: positions of the data layers' features, on which context layers attend.
        latent_dim: size of a latent, the same as the autoencoder's.
        scaling_factor: brings latents to about unit variance; the official model leaves them as they are.
        projected: whether CLIP or CLAP projects its tokens; see `ClipTextEncoder`.
        temperature: default of decoding; see `Optimus.generate`.
        max_tokens: default of decoding.
        guidance_scale: default for outputs; see `Guidance`.
    """

    spec = TEXT

    @register_to_config
    def __init__(
        self,
        autoencoder: dict[str, Any] | None = None,
        context_encoder: dict[str, Any] | None = None,
        positions: int = 4,
        latent_dim: int = 768,
        scaling_factor: float = 1.0,
        projected: bool = True,
        temperature: float = 1.0,
        max_tokens: int = 30,
        guidance_scale: float = OFFICIAL_GUIDANCE_SCALE,
    ) -> None:
        super().__init__()
        if autoencoder is not None and autoencoder["latent_dim"] != latent_dim:
            raise ValueError(f"latent_dim {latent_dim} is not the autoencoder's {autoencoder['latent_dim']}.")
        self.autoencoder = None if autoencoder is None else Optimus(**autoencoder)
        self.context_encoder = None if context_encoder is None else _text_encoder(context_encoder, projected)
        self.tokenizers = Tokenizers()

    @property
    def context_dim(self) -> int:
        """Width of the context tokens."""
        return self._context_encoder().dim

    @property
    def context_lengths(self) -> tuple[int, ...]:
        """Texts are padded to one length."""
        return (self._context_encoder().max_length,)

    @property
    def packable(self) -> tuple[nn.Module, ...]:
        """The part of Optimus that writes, which reads all its weights for each token."""
        return () if self.autoencoder is None else (self.autoencoder.decoder,)

    def data_layers(self, plan: Plan) -> FullyConnectedLayers:
        """See `Modality.data_layers`."""
        return FullyConnectedLayers(plan, self.config["latent_dim"], self.config["positions"])

    def latent_shape(self, height: int | None = None, width: int | None = None) -> tuple[int, ...]:
        """Returns the shape of a latent; a text has no height and width.

        Raises:
            ValueError: if it is given one.
        """
        if height is not None or width is not None:
            raise ValueError("Texts have no height and width: leave them out.")
        return (self.config["latent_dim"],)

    def read(self, data: object) -> list[str]:
        """See `read_texts`."""
        return read_texts(data)

    @torch.no_grad()
    def encode(self, items: Sequence[str]) -> Float[Tensor, "b d"]:
        """Returns the latents of texts: the means of Optimus' posteriors."""
        mu, _ = self._autoencoder().posterior(self.encoder_ids(items))
        return mu * self.config["scaling_factor"]

    def decode(
        self,
        latents: Float[Tensor, "b d"],
        generators: Sequence[Generator] | None = None,
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> list[str]:
        """Returns the texts of latents, without immediate repetitions.

        Args:
            latents: one for each text.
            generators: one for each latent.
            temperature, max_tokens: by default what the configuration says. These and the others: see
                `Optimus.generate`.
        """
        tokenizer = present(self.tokenizers.gpt2, "gpt2")
        ids = self._autoencoder().generate(
            latents.to(self.device, self.dtype) / self.config["scaling_factor"],
            bos=tokenizer.bos_token_id,  # pyright: ignore
            eos=tokenizer.eos_token_id,  # pyright: ignore
            generators=generators,
            temperature=self.config["temperature"] if temperature is None else temperature,
            max_tokens=self.config["max_tokens"] if max_tokens is None else max_tokens,
            top_k=top_k,
            top_p=top_p,
        )
        decode: Callable[..., str] = tokenizer.decode  # pyright: ignore - typed in part in transformers
        spaced = parts_words(tokenizer)
        texts = [decode(i, skip_special_tokens=True, clean_up_tokenization_spaces=spaced) for i in ids]
        return [remove_repetition(text) for text in texts]

    @torch.no_grad()
    def embed(self, items: Sequence[str], masks: object = None) -> Float[Tensor, "b n d"]:
        """Returns the context tokens of texts. Warns of words that are cut off or not known.

        Raises:
            ValueError: if there are masks, which texts do not have.
        """
        if masks is not None:
            raise ValueError("Texts have no masks.")
        return self._context_encoder()(self.context_ids(items))

    @torch.no_grad()
    def shared_vectors(self, items: Sequence[str]) -> Float[Tensor, "b d"] | None:
        """See `Modality.shared_vectors`: the tokens that stand for whole texts. Words that are cut off are not told."""
        encoder = self._context_encoder()
        if not isinstance(encoder, ClipTextEncoder):  # nothing of images is like tokens of T5 or CLAP
            return None
        tokenizer = present(self.tokenizers.clip, "clip")
        return encoder.summaries(self._ids(tokenizer, list(items), encoder.max_length, padding="max_length"))

    @torch.no_grad()
    def log_likelihood(self, items: Sequence[str]) -> Float[Tensor, " b"]:
        """Returns the mean log probability of a token, in nats, when Optimus writes texts from their latents."""
        ids, optimus = self.decoder_ids(items), self._autoencoder()
        pad = int(present(self.tokenizers.gpt2, "gpt2").pad_token_id)  # pyright: ignore
        mu, _ = optimus.posterior(self.encoder_ids(items))
        surprise = cross_entropy(
            optimus.logits(mu, ids[:, :-1]).float().transpose(1, 2), ids[:, 1:], ignore_index=pad, reduction="none"
        )
        return -surprise.sum(1) / ids[:, 1:].ne(pad).sum(1)

    def unconditional(self, output: str) -> Float[Tensor, "1 n d"]:
        """Returns the context of the empty text."""
        return self.embed([""])

    def present(self, items: Sequence[str], output_type: str) -> list[str]:
        """Texts are presented as they are, whatever the output type."""
        return list(items)

    def encoder_ids(self, items: Sequence[str]) -> Int[Tensor, "b s"]:
        """Returns texts for Optimus' encoder: lower case, at most 77 word pieces, [CLS] … [SEP], padded with 0."""
        tokenizer = present(self.tokenizers.bert, "bert")
        longest = min(_WORD_PIECES + 2, self._autoencoder().encoder.config.max_position_embeddings)
        return self._ids(tokenizer, [item.lower() for item in items], longest, padding="longest")

    def decoder_ids(self, items: Sequence[str]) -> Int[Tensor, "b s"]:
        """Returns texts for Optimus' decoder, to learn from: <BOS> … <EOS>, padded with <PAD>."""
        tokenizer = present(self.tokenizers.gpt2, "gpt2")
        wrapped = [f"{tokenizer.bos_token}{item.lower()}{tokenizer.eos_token}" for item in items]
        return self._ids(tokenizer, wrapped, self._autoencoder().decoder.config.n_positions - 1, padding="longest")

    def context_ids(self, items: Sequence[str]) -> Int[Tensor, "b n"]:
        """Returns texts for the context encoder, padded to its length. Warns of words that are cut off or not known."""
        encoder = self._context_encoder()
        tokenizer = present(self.tokenizers.named(encoder.tokenizer), encoder.tokenizer)
        longest = encoder.max_length
        for item in dict.fromkeys(items):
            _warn_of_lost_words(tokenizer, item, longest)
        return self._ids(tokenizer, list(items), longest, padding="max_length")

    def save_assets(self, folder: Path) -> None:
        """See `Modality.save_assets`."""
        self.tokenizers.save(folder)

    def load_assets(self, folder: Path) -> None:
        """See `Modality.load_assets`."""
        self.tokenizers = Tokenizers.load(folder)

    def _ids(self, tokenizer: PreTrainedTokenizerBase, texts: list[str], longest: int, padding: str) -> Tensor:
        encoded = tokenized(tokenizer, texts, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
        return encoded["input_ids"].to(self.device)  # pyright: ignore

    def _autoencoder(self) -> Optimus:
        return loaded(self.autoencoder, "text autoencoder (Optimus)", "that makes texts")

    def _context_encoder(self) -> TextEncoder:
        return loaded(self.context_encoder, "text context encoder", "from texts")


def _text_encoder(config: Mapping[str, Any], projected: bool) -> TextEncoder:
    match config.get("model_type"):
        case text_encoders.T5:
            return T5TextEncoder(config)
        case text_encoders.CLAP:
            from versatile_diffusion.modalities.clap import ClapTextEncoder  # which models without sound do without

            return ClapTextEncoder(config, projected)
        case _:
            return ClipTextEncoder(dict(config), projected)


def _warn_of_lost_words(tokenizer: PreTrainedTokenizerBase, text: str, longest: int) -> None:
    encoded = tokenized(tokenizer, text, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    ids, places = encoded["input_ids"], encoded["offset_mapping"]  # pyright: ignore
    kept = longest - tokenizer.num_special_tokens_to_add()
    if len(ids) > kept:
        cut = text[places[kept][0] :].split()
        warnings.warn(f"The text is too long for its encoder; left out: {_quote(cut)}", UserWarning, stacklevel=4)
    unknown = tokenizer.unk_token_id
    words = dict.fromkeys(text[a:b] for i, (a, b) in zip(ids[:kept], places, strict=False) if i == unknown)
    if words and unknown != tokenizer.eos_token_id:  # where these are one, as in the official CLIP, no word is unknown
        like = nearest_words(tokenizer.get_vocab(), list(words)[:_NAMED])
        known = f". The nearest that it knows: {', '.join(like)}." if like else ""
        warnings.warn(f"The text encoder does not know: {_quote(list(words))}{known}", UserWarning, stacklevel=4)


def _quote(words: list[str]) -> str:
    more = f" … and {len(words) - _NAMED} more words" if len(words) > _NAMED else ""
    return f'"{shortened(" ".join(words[:_NAMED]), _SHOWN)}"{more}'
