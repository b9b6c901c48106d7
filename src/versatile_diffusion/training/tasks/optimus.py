"""The text autoencoder learns to give sentences back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from versatile_diffusion.modalities.optimus import Optimus
from versatile_diffusion.training.task import Batch, Pass, Task


class OptimusWithWords(nn.Module):
    """Optimus, and for training alone a linear reading of a sentence's words from its latent."""

    def __init__(self, optimus: Optimus) -> None:
        super().__init__()
        self.optimus = optimus
        self.words = nn.Linear(optimus.latent_dim, optimus.decoder.config.vocab_size)


class OptimusTask(Task):
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
    """

    def __init__(
        self,
        model: OptimusWithWords,
        encoder_ids: Int64[Tensor, "n s"],
        decoder_ids: Int64[Tensor, "n t"],
        pad: int,
        kl_weight: float = 0.05,
        hidden_words: float = 0.3,
    ) -> None:
        self.model, self.encoder_ids, self.decoder_ids, self.pad = model, encoder_ids, decoder_ids, pad
        self.kl_weight, self.hidden_words = kl_weight, hidden_words

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
            bag = self.model.words(latents)[:, :, None].expand(-1, -1, target.shape[1]).float()
            words = cross_entropy(bag, target, ignore_index=self.pad, reduction="sum")
            divergence = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()
            return {"error": error / len(mu), "words": words / len(mu), "kl": self.kl_weight * divergence}

        yield reconstruct
