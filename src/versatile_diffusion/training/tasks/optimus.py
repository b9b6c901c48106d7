"""The text autoencoder learns to give sentences back."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Generator, Tensor
from torch.nn.functional import cross_entropy

from versatile_diffusion.modalities.optimus import Optimus
from versatile_diffusion.training.task import Batch, Pass, Task


class OptimusTask(Task):
    """Cross-entropy of the sentence and a KL divergence, both per sentence.

    Posterior collapse, where the decoder writes without looking at the latent, is held off in two ways: the divergence
    weighs little, and some of the words that the decoder sees are hidden, so that only the latent can tell them.

    Args:
        optimus: to train.
        encoder_ids: sentences for the encoder, 0 is padding (n length).
        decoder_ids: the same sentences for the decoder, <BOS> first, <EOS> last, then padding (n length).
        pad: the decoder's padding, which also hides words.
        kl_weight: weight of the KL divergence.
        hidden_words: share of the words that the decoder does not see.
    """

    def __init__(
        self,
        optimus: Optimus,
        encoder_ids: Int64[Tensor, "n s"],
        decoder_ids: Int64[Tensor, "n t"],
        pad: int,
        kl_weight: float = 0.05,
        hidden_words: float = 0.3,
    ) -> None:
        self.model, self.encoder_ids, self.decoder_ids, self.pad = optimus, encoder_ids, decoder_ids, pad
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
            "noise": torch.randn(size, self.model.latent_dim, generator=generator),
        }

    def passes(self, batch: Batch) -> Iterator[Pass]:
        """See `Task.passes`."""

        def reconstruct() -> dict[str, Tensor]:
            mu, logvar = self.model.posterior(batch["encoder_ids"])
            latents = mu + (0.5 * logvar).exp() * batch["noise"]
            seen = batch["decoder_ids"].masked_fill(batch["hidden"], self.pad)[:, :-1]
            target = batch["decoder_ids"][:, 1:]
            logits = self.model.logits(latents, seen).float()
            error = cross_entropy(logits.transpose(1, 2), target, ignore_index=self.pad, reduction="sum")
            divergence = 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1).mean()
            return {"error": error / len(mu), "kl": self.kl_weight * divergence}

        yield reconstruct
