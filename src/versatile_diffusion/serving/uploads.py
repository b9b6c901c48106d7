"""Data as clients send it: base64 or files of a form, which are never taken for paths or addresses."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from versatile_diffusion._moved import former_names
from versatile_diffusion.arrays import as_tensor
from versatile_diffusion.modalities.spec import ModalitySpec
from versatile_diffusion.validation import Strict

if TYPE_CHECKING:
    from torch import Tensor


class Part(Strict):
    """A file of a multipart request."""

    file: Annotated[str, Field(description="Name of the part that holds it.", max_length=200)]


Binary = Annotated[str | Part, Field(description="Base64, or a file of a multipart request.")]
Embedding = Annotated[
    list[list[float]] | Binary,
    Field(description="Context tokens: nested lists (tokens, width), or safetensors of one tensor."),
]


class Refused(ValueError):
    """Something that was sent cannot be used; the message is for the client."""


@dataclass
class Uploads:
    """What came with one request.

    Attributes:
        files: the contents of files by the names that the request uses.
        pixels_left: how many pixels, samples or the like all data of the request may have together from here on.
    """

    files: Mapping[str, bytes]
    pixels_left: int

    def content(self, given: str | Part) -> bytes:
        """The bytes of base64, with line breaks or as a data URL, too, or of a file that was sent along.

        Raises:
            Refused: if there is no such file, or it is not base64.
        """
        if not isinstance(given, str):
            if given.file not in self.files:
                raise Refused(f"There is no file {given.file!r} in the request: send it as a part of that name.")
            return self.files[given.file]
        if given[:5].lower() == "data:":
            head, _, given = given.partition(",")
            if not head.lower().endswith(";base64"):
                raise Refused("A data URL must hold base64, as in data:image/png;base64,iVBORw0KGgo….")
        try:
            return base64.b64decode("".join(given.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise Refused(f"Binary data is sent as base64 ({error}); paths and addresses are not read.") from error

    def item(self, modality: ModalitySpec, given: str | Part) -> object:
        """An item of a modality: words as they are, anything else decoded from what was sent.

        Raises:
            ValueError: if it is none, or larger than what is left for the request.
        """
        codec = modality.codec
        if codec.inline:
            if not isinstance(given, str):
                raise Refused(f"A {modality.name} is given as it is, not as a file.")
            return given
        item = codec.decode(self.content(given), self.pixels_left)
        self.pixels_left -= codec.measure(item)
        return item

    def embedding(self, given: list[list[float]] | str | Part) -> Tensor:
        """An embedding (1 n d): nested lists (n d), or safetensors of one tensor, (n d) or (1 n d).

        Raises:
            Refused: if it is something else.
        """
        value = self.array(given, "An embedding")
        value = value[None] if value.ndim == 2 else value
        if value.ndim != 3 or len(value) != 1:
            raise Refused(f"An embedding has shape (tokens, width), got {tuple(value.shape)}.")
        return value

    def array(self, given: list[list[float]] | str | Part, name: str) -> Tensor:
        """Finite numbers in half precision or more: nested lists, or safetensors of one tensor.

        Raises:
            Refused: if it is something else.
        """
        import torch  # takes seconds, which those who send no arrays need not wait for

        try:
            sent = given if isinstance(given, list) else _safetensors(self.content(given))
        except ValueError as error:
            raise Refused(f"{name} is a rectangle of numbers: {error}") from error
        try:
            value = as_tensor(sent, name)
        except ValueError as error:
            raise Refused(str(error)) from error
        return value if value.dtype in (torch.float16, torch.float32) else value.float()  # which have a checksum


def _safetensors(content: bytes) -> Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
    except SafetensorError as error:
        raise Refused(f"these are no safetensors ({error}).") from error
    if len(tensors) != 1:
        raise Refused(f"it must be one tensor, got {len(tensors)}.")
    return next(iter(tensors.values()))


__getattr__ = former_names(
    __name__,
    {
        "FORMATS": "versatile_diffusion.modalities.image_spec:UPLOADED",
    },
)
