"""How well made texts agree with those that people wrote, and with what they were made of."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from torch import Tensor

from versatile_diffusion.evaluation.captions import NGRAMS, bleu, bleu_counts, cider_d, rouge_l
from versatile_diffusion.evaluation.clip import ClipNetwork, clip_score
from versatile_diffusion.evaluation.estimates import Estimate
from versatile_diffusion.evaluation.figures import MeasuredFigure
from versatile_diffusion.evaluation.tokens import caption_tokens

_CIDER = "arXiv 1411.5726, as its authors' code: scaled by 10, phrases weighed on these references"


def text_figures(
    texts: Sequence[str],
    references: Sequence[Sequence[str]],
    context: Float[Tensor, "n d"],
    clip: ClipNetwork,
    draws: Int[ndarray, "times n"],
) -> list[MeasuredFigure]:
    """Measures texts.

    Args:
        texts: one of each sample.
        references: what people wrote of each.
        context: CLIP's embeddings of what each text was made of.
        clip: reads the texts.
        draws: of the samples, to tell how sure the figures are.

    Returns:
        CIDEr-D, BLEU-1 … BLEU-4, ROUGE-L and CLIP score.
    """
    candidates = [caption_tokens(text) for text in texts]
    theirs = [[caption_tokens(text) for text in others] for others in references]
    figures = [MeasuredFigure("CIDEr-D", Estimate.of_mean(cider_d(candidates, theirs), draws), "higher", _CIDER)]
    counts = bleu_counts(candidates, theirs)
    drawn, total = draws @ counts, counts.sum(0)
    for ngrams in range(1, NGRAMS + 1):
        estimate = Estimate.of(float(bleu(total, ngrams)), bleu(drawn, ngrams))
        how = f"torchmetrics {version('torchmetrics')}; of all texts together, nearest reference's length"
        figures.append(MeasuredFigure(f"BLEU-{ngrams}", estimate, "higher", how))
    longest = np.array([rouge_l(*pair) for pair in zip(candidates, theirs, strict=True)])
    figures.append(MeasuredFigure("ROUGE-L", Estimate.of_mean(longest, draws), "higher", "COCO's, beta 1.2"))
    scores = clip_score(clip.texts(texts), context).double().numpy()
    how = f"100 max(cos, 0) of what was made and what of; {clip.name}"
    return [*figures, MeasuredFigure("CLIP score", Estimate.of_mean(scores, draws), "higher", how)]
