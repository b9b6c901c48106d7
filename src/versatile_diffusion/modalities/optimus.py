"""Optimus: a variational autoencoder of sentences (arXiv 2004.04092), the text autoencoder of the paper.

BERT reads a sentence, and its pooled output gives the posterior of one latent vector. GPT-2 writes the sentence back.
The latent enters GPT-2 twice: projected and added to every token embedding, and projected to one vector a layer that
serves as both key and value of a position before the sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from transformers import BertConfig, BertModel, DynamicCache, GPT2Config, GPT2Model
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from versatile_diffusion.kernels.linear import lay_out, linear, replace_layers


class Optimus(nn.Module):
    """Sentences as word piece ids ↔ latents.

    The head of the decoder is the transposed token embedding, so no weight is held twice.

    Args:
        bert: a transformers BertConfig as a dict.
        gpt2: a transformers GPT2Config as a dict.
        latent_dim: size of the latent.
    """

    def __init__(self, bert: dict[str, Any], gpt2: dict[str, Any], latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.encoder = BertModel(BertConfig(**bert))
        self.decoder = GPT2Model(GPT2Config(**gpt2))
        replace_layers(self.decoder)
        hidden, layers = self.decoder.config.n_embd, self.decoder.config.n_layer
        self.to_posterior = nn.Linear(self.encoder.config.hidden_size, 2 * latent_dim, bias=False)
        self.to_embedding = nn.Linear(latent_dim, hidden, bias=False)
        self.to_memory = nn.Linear(latent_dim, layers * hidden, bias=False)

    def posterior(self, input_ids: Int[Tensor, "b s"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
        """Returns the mean and log variance of the latent of each sentence of encoder ids; id 0 is padding."""
        pooled = self.encoder(input_ids=input_ids, attention_mask=(input_ids > 0).long()).pooler_output
        mu, logvar = self.to_posterior(pooled).chunk(2, dim=-1)
        return mu, logvar

    def logits(self, latents: Float[Tensor, "b d"], decoder_ids: Int[Tensor, "b s"]) -> Float[Tensor, "b s v"]:
        """Returns the logits of the token after each of `decoder_ids`, in one pass. Gradients reach the latents."""
        hidden = self._hidden(self.to_embedding(latents), decoder_ids, self._prefix(latents))
        return linear(hidden, self._embedding.weight)

    @torch.no_grad()
    def generate(
        self,
        latents: Float[Tensor, "b d"],
        *,
        bos: int,
        eos: int | None,
        max_tokens: int = 30,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generators: Sequence[Generator] | None = None,
    ) -> list[list[int]]:
        """Writes a sentence for each latent, token by token, all sentences at once.

        Args:
            latents: one latent for each sentence.
            bos: id to begin with.
            eos: id that ends a sentence; None writes on to `max_tokens`.
            max_tokens: most tokens of a sentence, as far as the decoder has positions.
            temperature: flattens (> 1) or sharpens (< 1) the distribution; 0 takes the likeliest token.
            top_k: draw from this many of the likeliest tokens only.
            top_p: draw from the likeliest tokens that hold this share of the probability only.
            generators: one for each latent, so that a sentence does not depend on its batch; without them PyTorch's
                default generator draws.

        Returns:
            Token ids of each sentence, without `bos` and `eos`.

        Raises:
            ValueError: if an option is out of range, or there are not as many generators as latents.
        """
        if generators is not None and len(generators) != len(latents):
            raise ValueError(f"{len(latents)} latents need as many generators, got {len(generators)}.")
        lay_out(self.decoder)
        warp = warpers(temperature, top_k, top_p)
        sentences: list[list[int]] = [[] for _ in latents]
        rows = list(range(len(latents)))
        added, cache = self.to_embedding(latents), self._prefix(latents)
        last = torch.full((len(rows), 1), bos, device=latents.device)
        for _ in range(min(max_tokens, self.decoder.config.n_positions - 1)):
            hidden = self._hidden(added, last, cache)[:, -1]
            scores = linear(hidden, self._embedding.weight).float()
            drawn = [generators[row] for row in rows] if generators is not None else [None] * len(rows)
            tokens = scores.argmax(-1) if temperature == 0 else _draw(warp(last, scores), drawn)
            ids = _numbers(tokens)
            kept = [i for i, token in enumerate(ids) if token != eos]
            if not kept:
                break
            if len(kept) < len(rows):  # a finished sentence costs nothing more
                index = torch.tensor(kept, device=latents.device)
                rows, tokens, added = [rows[i] for i in kept], tokens[index], added[index]
                cache.batch_select_indices(index)
            for row, i in zip(rows, kept, strict=True):
                sentences[row].append(ids[i])
            last = tokens[:, None]
        return sentences

    @property
    def _embedding(self) -> nn.Embedding:
        """The token embedding of the decoder, which is its output layer as well."""
        return self.decoder.wte  # pyright: ignore - typed in part in transformers

    def _prefix(self, latents: Float[Tensor, "b d"]) -> DynamicCache:
        """A KV cache with the position before the sentence: in every layer one vector, both key and value."""
        heads = self.decoder.config.n_head
        cache = DynamicCache()
        for layer, vector in enumerate(self.to_memory(latents).chunk(self.decoder.config.n_layer, dim=-1)):
            state = vector.unflatten(-1, (heads, 1, -1))
            cache.update(state, state, layer)  # pyright: ignore[reportUnknownMemberType] - typed in part
        return cache

    def _hidden(
        self, added: Float[Tensor, "b h"], decoder_ids: Int[Tensor, "b s"], cache: DynamicCache
    ) -> Float[Tensor, "b s h"]:
        """What the decoder makes of the ids, which follow what the KV cache holds and are added to it."""
        embedded = self._embedding(decoder_ids) + added[:, None]
        return self.decoder(inputs_embeds=embedded, past_key_values=cache, use_cache=True).last_hidden_state


def warpers(temperature: float, top_k: int | None, top_p: float | None) -> LogitsProcessorList:
    """Returns what changes the scores of tokens before one is drawn; see `Optimus.generate`.

    Raises:
        ValueError: if an option is out of range.
    """
    if temperature < 0:
        raise ValueError(f"temperature must be 0 (the likeliest token) or more, got {temperature}.")
    chosen: list[LogitsProcessor] = []
    if temperature > 0:
        chosen.append(TemperatureLogitsWarper(float(temperature)))
    if top_k is not None:
        chosen.append(TopKLogitsWarper(top_k))
    if top_p is not None:
        chosen.append(TopPLogitsWarper(top_p))
    return LogitsProcessorList(chosen)


def _numbers(tokens: Int[Tensor, " b"]) -> list[int]:
    return tokens.cpu().numpy().tolist()


def _draw(scores: Float[Tensor, "b v"], generators: Sequence[Generator | None]) -> Int[Tensor, " b"]:
    """One token a row by inverting the cumulative distribution: one number of the row's generator a token."""
    uniform = [
        torch.rand(1, generator=generator, device=generator.device if generator is not None else None).cpu()
        for generator in generators
    ]
    cumulative = scores.softmax(-1).cpu().double().cumsum(-1)
    at = torch.stack(uniform).double() * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, at, right=True).clamp_max(scores.shape[-1] - 1)
    return tokens[:, 0].to(scores.device)
