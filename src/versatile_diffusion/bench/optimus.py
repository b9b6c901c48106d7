"""Optimus writing sentences: ours, all at once with a KV cache, against the official loop.

The official loop writes one sentence after the other, and reads the whole sentence again for each token.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_diffusion.bench.report import Figure, Result, Settings
from versatile_diffusion.bench.timing import alternate, ratios, seconds
from versatile_diffusion.kernels import optimize
from versatile_diffusion.modalities.optimus import Optimus
from versatile_diffusion.model_presets import Config

_SENTENCES, _TOKENS = 4, 29
_AT_LEAST = 8.0
_SPREAD, _POSITIONS_SPREAD = 0.1, 0.6  # of random weights, so large that a sentence depends on all that comes before

Sentences = list[list[int]]


def measure(settings: Settings) -> Result:
    """Times both ways to write with the same random weights in float32, on the CPU.

    Raises:
        RuntimeError: If they do not write the same sentences.
    """
    config = settings.sizes.text.autoencoder
    assert config is not None
    model = random_optimus(config)
    theirs_alone = copy.deepcopy(model)  # its weights stay as they were loaded
    optimize(model.decoder)  # as the commands do
    bos = int(config["gpt2"]["bos_token_id"])

    def ours(number: int) -> Sentences:
        latents = _latents(number, model.latent_dim)
        return model.generate(latents, bos=bos, eos=None, max_tokens=_TOKENS, temperature=0)

    def peer(number: int) -> Sentences:
        return official_loop(theirs_alone, _latents(number, model.latent_dim), bos, _TOKENS)

    _require_equal(ours(settings.rounds), peer(settings.rounds))
    found = alternate({"ours": ours, "official loop": peer}, settings.rounds)
    for mine, theirs in zip(*found.values(), strict=True):
        _require_equal(mine.output, theirs.output)
    figures = [Figure(name, "s", seconds(runs)) for name, runs in found.items()]
    figures += [Figure("official loop / ours", "×", ratios(*found.values()), at_least=_AT_LEAST)]
    how = {"sentences": _SENTENCES, "tokens": _TOKENS, "decoder layers": model.decoder.config.n_layer, "dtype": "fp32"}
    return Result("Optimus, greedy decoding", figures, how)


def random_optimus(config: Config) -> Optimus:
    """Returns an Optimus of random weights that never change, which writes sentences that vary."""
    with torch.random.fork_rng():  # pyright: ignore[reportUnknownMemberType] - torch leaves parameters untyped
        torch.manual_seed(0)  # pyright: ignore[reportUnknownMemberType] - torch leaves a parameter untyped
        model = Optimus(**config).eval()
        for parameter in model.decoder.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=_SPREAD)
        torch.nn.init.normal_(model.decoder.wpe.weight, std=_POSITIONS_SPREAD)
    return model


@torch.no_grad()
def official_loop(model: Optimus, latents: Float[Tensor, "b d"], bos: int, tokens: int) -> Sentences:
    """Writes greedy sentences as the official code decodes: one by one, without a KV cache."""
    sentences: Sentences = []
    for latent in latents[:, None]:
        ids = [bos]
        for _ in range(tokens):
            logits = model.logits(latent, torch.tensor([ids]))  # of all tokens, though only the last are of use
            ids.append(int(logits[0, -1].argmax()))
        sentences.append(ids[1:])
    return sentences


def _latents(number: int, dim: int) -> Float[Tensor, "b d"]:
    return torch.randn(_SENTENCES, dim, generator=torch.Generator().manual_seed(number))


def _require_equal(ours: Sentences, peer: Sentences) -> None:
    if ours != peer:
        raise RuntimeError(f"Ours and the official loop wrote different sentences: {ours} and {peer}.")
