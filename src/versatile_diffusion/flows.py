"""Flows: which modality is made from which."""

from __future__ import annotations

from dataclasses import dataclass

_ALIASES = {"image-variation": "image-to-image", "text-variation": "text-to-text"}


@dataclass(frozen=True)
class Flow:
    """An output modality made from a context modality.

    Attributes:
        context: modality of the context.
        output: modality of what is made.
    """

    context: str
    output: str

    @classmethod
    def parse(cls, name: str) -> Flow:
        """Reads "text-to-image", "image-variation" and the like.

        Raises:
            ValueError: if the name is not of that form.
        """
        context, separator, output = _ALIASES.get(name, name).partition("-to-")
        if not (context and separator and output):
            raise ValueError(
                f"{name!r} is not a flow. Write CONTEXT-to-OUTPUT, such as 'text-to-image', "
                "or one of 'image-variation' and 'text-variation'."
            )
        return cls(context, output)

    def __str__(self) -> str:
        name = f"{self.context}-to-{self.output}"
        return next((alias for alias, flow in _ALIASES.items() if flow == name), name)
