"""The text autoencoder learns to give sentences back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Int64
from torch import Generator, Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from transformers import PreTrainedTokenizerBase

from versatile_diffusion.modalities.optimus import Optimus
from versatile_diffusion.training.loop.preview import PREVIEWED, side_by_side
from versatile_diffusion.training.loop.task import Batch, Pass, Task


class OptimusWithWords(nn.Module):
    """Optimus, and for training alone a linear reading of a sentence's words from its latent."""

    def __init__(self, optimus: Optimus) -> None:
        super().__init__()
        self.optimus = optimus
        self.words = nn.Linear(optimus.latent_dim, optimus.decoder.config.vocab_size)


class OptimusTask(Task[OptimusWithWords]):
    """Cross-entropy of the sentence and of its words in no order, and a KL divergence, all per sentence.

    Posterior collapse, where the decoder writes without looking at the latent, is held off in three ways: the
    divergence weighs little; some of the words that the decoder sees are hidden, so that only the latent can tell them;
    and the latent alone must tell the words in no order (the bag-of-words loss of arXiv 1703.10960).

    Args:
        model: to train.
        encoder_ids: sentences for the encoder, 0 is padding (n length).
        decoder_ids: the same sentences for the decoder, <BOS> first, <EOS> last, then padding (n length).
        pad: the decoder's padding, which also hides words.
        kl_weight: weight of the KL divergence.
        hidden_words: share of the words that the decoder does not see.
        tokenizer: the decoder's, for previews; there are none without it.
    """

    def __init__(
        self,
        model: OptimusWithWords,
        encoder_ids: Int64[Tensor, "n s"],
        decoder_ids: Int64[Tensor, "n t"],
        pad: int,
        kl_weight: float = 0.05,
        hidden_words: float = 0.3,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        self.model, self.encoder_ids, self.decoder_ids, self.pad = model, encoder_ids, decoder_ids, pad
        self.kl_weight, self.hidden_words, self.tokenizer = kl_weight, hidden_words, tokenizer

    def draw(self, generator: Generator, size: int) -> Batch:
        """See `Task.draw`."""
        index = torch.randint(len(self.encoder_ids), (size,), generator=generator)
        decoder_ids = self.decoder_ids[index]
        hidden = torch.rand(decoder_ids.shape, generator=generator) < self.hidden_words
        hidden[:, 0] = False
        return {
            "encoder_ids": self.encoder_ids[index],
            "decoder_ids": decoder_ids,
            "hidden": hidden,
            "noise": torch.randn(size, self.model.optimus.latent_dim, generator=generator),
        }

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def reconstruct() -> dict[str, Tensor]:
            mu, logvar = self.model.optimus.posterior(batch["encoder_ids"])
            latents = mu + (0.5 * logvar).exp() * batch["noise"]
            seen = batch["decoder_ids"].masked_fill(batch["hidden"], self.pad)[:, :-1]
            target = batch["decoder_ids"][:, 1:]
            logits = self.model.optimus.logits(latents, seen).float()
            error = cross_entropy(logits.transpose(1, 2), target, ignore_index=self.pad, reduction="sum")
            words = self.model.words(latents).float()
            present = torch.zeros_like(words).scatter_(1, target, 1.0)
            missed = binary_cross_entropy_with_logits(words, present, reduction="sum")
            divergence = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()
            return {"error": error / len(mu), "words": missed / len(mu), "kl": self.kl_weight * divergence}

        yield reconstruct

    def preview(self, model: OptimusWithWords) -> Mapping[str, Tensor | str]:
        """See `Task.preview`: the first sentences and their reconstructions."""
        if self.tokenizer is None:
            return {}
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        latents, _ = model.optimus.posterior(self.encoder_ids[:PREVIEWED].to(model.words.weight.device))
        longest = self.decoder_ids.shape[1]
        ids = model.optimus.generate(latents, bos=bos, eos=eos, temperature=0, max_tokens=longest)  # pyright: ignore
        sentences = [self._text(sentence) for sentence in self.decoder_ids[:PREVIEWED].numpy().tolist()]
        return {"sentences": side_by_side(sentences, [self._text(sentence) for sentence in ids])}

    def _text(self, ids: list[int]) -> str:
        assert self.tokenizer is not None
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))  # pyright: ignore[reportUnknownMemberType] - transformers leaves parameters untyped
