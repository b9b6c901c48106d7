# pyright: strict
"""The page that `vd demo` writes: one file, pictures and all."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from PIL import Image

from versatile_diffusion import __version__
from versatile_diffusion.provenance import png

_TEMPLATE = Path(__file__).with_name("demo.html")
_LARGEST = 512  # pixels of a picture on the page

EXPLANATIONS = {
    "text-to-image": "CLIP reads the prompt; guided by it, noise becomes the latent of a picture.",
    "image-to-text": "CLIP looks at the picture; guided by it, noise becomes the latent of a sentence.",
    "image-variation": "Guided by what CLIP sees in the picture, noise becomes another picture of the same things.",
    "text-variation": "Guided by what CLIP reads in the prompt, noise becomes another sentence about the same things.",
}


@dataclass(frozen=True)
class FlowResult:
    """What one flow made.

    Attributes:
        flow: its name.
        context: the prompt or the picture that it was made from.
        outputs: texts or pictures.
    """

    flow: str
    context: str | Image.Image
    outputs: Sequence[str | Image.Image]


def page(results: Sequence[FlowResult], how: str) -> str:
    """Returns the page as HTML.

    Args:
        results: of each flow.
        how: said at the end: model, steps, seed and the like.
    """
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        flows="\n".join(map(_section, results)), how=html.escape(how), version=__version__
    )


def _section(result: FlowResult) -> str:
    context, *_ = result.flow.split("-")
    makes = "texts" if isinstance(result.outputs[0], str) else "pictures"
    outputs = "\n".join(f"<li>{_show(output, f'made by {result.flow}')}</li>" for output in result.outputs)
    return f"""<section>
<h2>{result.flow.replace("-", " ").capitalize()}</h2>
<p class="explanation">{EXPLANATIONS[result.flow]}</p>
<div class="flow">
<figure>{_show(result.context, "the picture given")}<figcaption>{context}</figcaption></figure>
<span class="arrow" aria-hidden="true">→</span>
<ul class="{makes}">
{outputs}
</ul>
</div>
</section>"""


def _show(item: str | Image.Image, what: str) -> str:
    if isinstance(item, str):
        return f"<p>{html.escape(item) or '<i>nothing</i>'}</p>"
    small = item.copy()
    small.thumbnail((_LARGEST, _LARGEST))
    return f'<img alt="{what}" src="data:image/png;base64,{base64.b64encode(png(small)).decode()}">'
