"""The share of samples that are learnt without their context, as users give it: one for all, or one a modality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, cast

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.validation import Number


def _shares(value: object) -> float | dict[str, float]:
    """A share, or shares by modality, also as the command line writes them: "0.1", or ["text=0.1", "image=0.2"]."""
    if isinstance(value, str | list):
        words = [value] if isinstance(value, str) else cast("list[object]", value)  # of anything, checked below
        told = [str(word).partition("=") for word in words]
        value = told[0][0] if len(told) == 1 and not told[0][1] else {name: share for name, _, share in told}
    if not isinstance(value, Mapping):
        return _share(value)
    shares = cast("Mapping[object, object]", value)  # of anything, checked below
    return {modality_spec(str(name)).name: _share(share) for name, share in shares.items()}


def _share(value: object) -> float:
    try:
        return TypeAdapter(Annotated[Number, Field(ge=0, le=1)]).validate_python(value)
    except ValidationError as error:
        raise ValueError(
            f"context_dropout is a number from 0 to 1, or one for each of some modalities such as text=0.2 image=0.1, "
            f"got {value!r:.80}."
        ) from error


ContextDropout = Annotated[float | dict[str, float], BeforeValidator(_shares)]
"""A share of all contexts, or of those of some modalities."""
