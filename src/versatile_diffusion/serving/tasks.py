"""Tasks of the paper as fields of `GenerateIn`, for all that offer them by name: the studio, the tools of agents."""

from __future__ import annotations

from collections.abc import Mapping


def variation_of(
    image: Mapping[str, object], *, fidelity: float = 0.0, color_adjust: bool = False
) -> dict[str, object]:
    """Asks for images like an image.

    Args:
        image: its context.
        fidelity: how much of its layout is kept, from 0 to 1.
        color_adjust: whether the outputs take the statistics of its colours.
    """
    kept = {"start": image["data"], "strength": 1 - fidelity} if fidelity else {}
    colors = {"colors_of": image["data"]} if color_adjust else {}
    return {"contexts": [image], **kept, **colors}


def edit_of(image: Mapping[str, object], changes: Mapping[str, object], *, strength: float = 1.0) -> dict[str, object]:
    """Asks for an image that is changed by words.

    Args:
        image: its context.
        changes: fields of `Edit`.
        strength: below 1 some of its layout is kept, at 0 all of it.
    """
    kept = {"start": image["data"], "strength": strength} if strength < 1 else {}
    return {"contexts": [image], "edit": dict(changes), **kept}
