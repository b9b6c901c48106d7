"""Flows: which modality is made from which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_BETWEEN, _VARIATION = "-to-", "-variation"


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
        """Reads "text-to-image", "image-variation" (the same as "image-to-image") and the like.

        Raises:
            ValueError: if the name is not of that form.
        """
        if name.endswith(_VARIATION):
            name = name.removesuffix(_VARIATION)
            name = f"{name}{_BETWEEN}{name}"
        context, _, output = name.partition(_BETWEEN)
        if not (context and output):
            raise ValueError(
                f"{name!r} is not a flow. Write CONTEXT-to-OUTPUT or MODALITY-variation, "
                "such as 'text-to-image' or 'image-variation'."
            )
        return cls(context, output)

    @classmethod
    def of_method(cls, name: str, modalities: Sequence[str]) -> Flow | None:
        """Returns the flow between these modalities that a method of that name makes, such as `text_to_sound`."""
        flows = (cls(context, output) for context in modalities for output in modalities)
        return next((flow for flow in flows if flow.method == name), None)

    @property
    def method(self) -> str:
        """The name of the method that makes it, such as "image_variation"."""
        return str(self).replace("-", "_")

    def __str__(self) -> str:
        if self.context == self.output:
            return f"{self.context}{_VARIATION}"
        return f"{self.context}{_BETWEEN}{self.output}"
