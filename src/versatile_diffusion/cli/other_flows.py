"""Commands for flows that the paper does not know, such as `vd text-to-sound`: one for each two modalities."""
# pyright: strict

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

from versatile_diffusion.cli.contexts import Negatives
from versatile_diffusion.cli.decoding import decoding_words, read_decoding
from versatile_diffusion.cli.files import name_of
from versatile_diffusion.cli.flags import Taken
from versatile_diffusion.cli.flows import Pictures, Prompts
from versatile_diffusion.cli.job import GenerationJob
from versatile_diffusion.cli.options import JobOptions
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.registry import modality_names, modality_spec
from versatile_diffusion.modalities.spec import DecodingOptions
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.sampling.options import Sampling

_PAPER = (TEXT.name, IMAGE.name)
_PROMPT = '"a red tent in the rain"'


def other_flows() -> Iterator[Flow]:
    """Yields the flows between modalities that are known here, but for those of the paper."""
    names = modality_names()
    for output in names:
        for context in names:
            if not (context in _PAPER and output in _PAPER):
                yield Flow(context, output)


def find_other_flow(name: str) -> Flow | None:
    """Returns the flow of that name, if it is one of `other_flows`."""
    return next((flow for flow in other_flows() if str(flow) == name), None)


def flow_command(flow: Flow) -> tuple[Callable[..., None], str]:
    """Returns the command that makes a flow, and its help."""
    given, made = modality_spec(flow.context), modality_spec(flow.output)

    def make(
        items: list[str], job: JobOptions, sampling: Sampling, decoding: DecodingOptions, negatives: Negatives
    ) -> None:
        from versatile_diffusion.context import Context

        data = [given.codec.parse(item) for item in items]
        names = list(items) if given.codec.inline else [name_of(item) for item in items]
        own = {**negatives.options(), **read_decoding(made.name, decoding)}
        words = negatives.words | decoding_words(decoding)
        modalities = [given.name, *negatives.modalities]
        generation = GenerationJob(str(flow), made.name, modalities, names, job, sampling, words)
        generation.run(lambda pipe, options: pipe.generate(made.name, [Context(given.name, data)], **own, **options))

    sizeless = () if made.in_pixels else ("height", "width")
    make.__annotations__ |= {
        "items": Prompts if given.codec.inline else Pictures,
        "sampling": Annotated[Sampling, Taken(without=("strength", *sizeless))],
        "decoding": made.decoding,
    }
    return make, _help(flow)


def _help(flow: Flow) -> str:
    codec = modality_spec(flow.context).codec
    how = "like" if flow.context == flow.output else "from"
    item = _PROMPT if codec.inline else f"{flow.context}{codec.suffix}"
    article = "an" if flow.context[0] in "aeiou" else "a"
    return f"Make {flow.output}s {how} {article} {flow.context}.\n\n\b\nvd {flow} {item} -n 4 --seed 1\n"
