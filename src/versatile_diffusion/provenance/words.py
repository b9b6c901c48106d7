"""How an output was made, in the words that commands use: for people, beside the record that replays it."""
# pyright: strict

from __future__ import annotations

from versatile_diffusion.options import Flag, metadata_of
from versatile_diffusion.sampling.options import Sampling

_ALWAYS = ("num_inference_steps",)


def sampling_words(sampling: Sampling) -> dict[str, object]:
    """The options that are not as by default, and the steps, by the names that the command line gives them."""
    return {
        _word(name): value
        for name, value in dict(sampling).items()
        if name in _ALWAYS or value != Sampling.model_fields[name].default
    }


def _word(name: str) -> str:
    flag = metadata_of(Sampling.model_fields[name], Flag)
    return flag.name.removeprefix("--").replace("-", "_") if flag is not None and flag.name is not None else name
