"""How an output was made, in the words that commands use: for people, beside the record that replays it."""
# pyright: strict

from __future__ import annotations

from versatile_diffusion.fields import flag_name
from versatile_diffusion.sampling.few_steps import resolved
from versatile_diffusion.sampling.options import Sampling

_ALWAYS = ("num_inference_steps",)


def sampling_words(sampling: Sampling) -> dict[str, object]:
    """Returns the options that are not as by default, and the steps, by the names that the command line gives them.

    What a preset stands for is known with the model only: of options that are not resolved it says the preset's name.
    """
    known = resolved(sampling, None) if sampling.preset is None else sampling
    return {
        _word(name): value
        for name, value in dict(known).items()
        if value is not None and (name in _ALWAYS or value != Sampling.model_fields[name].default)
    }


def _word(name: str) -> str:
    return flag_name(Sampling, name).removeprefix("--").replace("-", "_")
