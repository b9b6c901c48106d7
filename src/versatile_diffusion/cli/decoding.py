"""Options of decoding as commands take them, checked before the model is opened."""
# pyright: strict

from __future__ import annotations

from versatile_diffusion.fields import data_fields, flag_name
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import DecodingOptions


def read_decoding(to: str, decoding: DecodingOptions) -> dict[str, object]:
    """Returns the options of `decode` that the user gave; data among them are read.

    Raises:
        ValueError: if one is not for outputs of that modality, or cannot be used.
    """
    spec, asked = modality_spec(to), decoding.given
    for name in asked:
        if name not in spec.decoding.model_fields:
            raise ValueError(f"{flag_name(type(decoding), name)} is not for outputs of modality {to!r}: leave it out.")
    data = {
        name: modality_spec(of).codec.parse(str(asked[name]))
        for name, of in data_fields(spec.decoding).items()
        if name in asked
    }
    return spec.decoding_options({**asked, **data}).given


def decoding_words(decoding: DecodingOptions) -> dict[str, object]:
    """Returns the options that the user gave, as they were written."""
    return {name: value if isinstance(value, int | float) else str(value) for name, value in decoding.given.items()}
