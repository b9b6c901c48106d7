"""What is known of a modality before its model is loaded: its name, its files, and the options of making it.

Nothing here imports PyTorch, so that commands and servers answer at once. `registry` finds a spec by its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import ConfigDict

from versatile_diffusion.extras import require
from versatile_diffusion.files import is_data_url, quoted, read_base64, require_file
from versatile_diffusion.validation import Strict, checked

if TYPE_CHECKING:
    from torch import Tensor

    from versatile_diffusion.modalities.base import Modality


class ShownAs(StrEnum):
    """How a page shows an item."""

    IMAGE = "image"
    TEXT = "text"
    AUDIO = "audio"
    FILE = "file"


class DecodingOptions(Strict):
    """Options of a modality's `decode`, all with a default. The base class has none of them."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    @property
    def given(self) -> dict[str, object]:
        """The options that were given and are not None, by their names."""
        return {name: getattr(self, name) for name in self.model_fields_set if getattr(self, name) is not None}


class Codec(ABC):
    """Items of a modality as bytes and files, and back.

    An item is what the modality's `present` gives by default and its `read` takes: an image of PIL, a str.

    Attributes:
        suffixes: of the files that it reads, in lower case and with their dots.
        suffix: of the files that it writes, one of `suffixes`.
        media_type: of what it writes.
        shown_as: how a page shows an item.
        inline: whether items are words that command lines, JSON and records hold as they are.
        keeps_record: whether a file holds how it was made; if not, that is kept beside it.
        libraries: that read and write its files, and are not installed with every model.
        extra: of this package, which installs them.
    """

    suffixes: ClassVar[tuple[str, ...]]
    suffix: ClassVar[str]
    media_type: ClassVar[str]
    shown_as: ClassVar[ShownAs] = ShownAs.FILE
    inline: ClassVar[bool] = False
    keeps_record: ClassVar[bool] = False
    libraries: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def require_installed(self) -> None:
        """Raises ImportError, which says what to install, unless the libraries are there."""
        for library in self.libraries:
            require(library, f"A {self.suffix} file", self.extra)

    @abstractmethod
    def decode(self, content: bytes, most: int | None = None) -> object:
        """Returns the item in the content of a file, which may come from anybody.

        Args:
            content: of the whole file.
            most: pixels, samples or characters that an item may have; it is found out before they are decoded.

        Raises:
            ValueError: if it holds none that is whole, or a larger one; the message says what would do.
        """

    @abstractmethod
    def encode(self, item: object, record: Mapping[str, str] | None = None) -> bytes:
        """Returns the content of a file that holds an item and, where `keeps_record` is true, how it was made.

        Raises:
            TypeError: if it is no item of this modality.
        """

    @abstractmethod
    def values(self, data: object) -> Sequence[str | Tensor]:
        """Returns what records keep of data, one value for each item: words, or a tensor that holds the item exactly.

        Data is whatever the modality's `read` takes. An 8-bit value is of uint8, and stored as a PNG.

        Raises:
            TypeError, ValueError: if an item is not of this modality; the message says what is expected.
        """

    def restored(self, value: str | Tensor) -> object:
        """Returns the item that a record kept as that value."""
        return value

    def picture(self, item: object) -> bytes | None:
        """Returns a picture as a PNG of an item that has none of its own, such as a sound; None if there is none."""
        return None

    def measure(self, item: object) -> int:
        """Returns how many pixels, samples or characters an item has, as `most` in `decode` counts them."""
        return 1

    def read(self, file: Path) -> object:
        """Returns the item in a file of the user's own.

        Raises:
            ValueError: if it cannot be read; the message names the file.
        """
        require_file(file)
        try:
            return self.decode(file.read_bytes())
        except (OSError, ValueError) as error:
            raise ValueError(f"Cannot read {quoted(file)}: {error}") from error

    def require(self, file: Path) -> None:
        """Raises ValueError unless a file holds an item, as far as that can be told without decoding all of it."""
        self.read(file)

    def read_record(self, content: bytes) -> dict[str, str]:
        """Returns the record that `encode` put into the content of a file; nothing where there is none."""
        return {}

    def parse(self, argument: str) -> object:
        """Returns the item that an argument of a command means: a file or a data URL that holds it, or the words.

        Raises:
            ValueError: if it cannot be read.
        """
        return self.decode(read_base64(argument)) if is_data_url(argument) else self.read(Path(argument))


@dataclass(frozen=True)
class ModalitySpec:
    """What is known of a modality before its model is loaded.

    Attributes:
        name: in flows, contexts and folders, such as "image".
        codec: its items as bytes and files.
        implementation: its subclass of `Modality` as "module:Class", which is imported when it is needed.
        decoding: the options of its `decode`.
        in_pixels: whether what is made has a height and a width in pixels.
    """

    name: str
    codec: Codec
    implementation: str
    decoding: type[DecodingOptions] = DecodingOptions
    in_pixels: bool = False

    def load(self) -> type[Modality[Any]]:
        """Returns the class of the modality, with all that it imports.

        Raises:
            TypeError: if `implementation` is no modality of this name.
        """
        from versatile_diffusion.modalities.base import Modality

        found: object = resolve_name(self.implementation)
        if not (isinstance(found, type) and issubclass(found, Modality) and found.name == self.name):
            raise TypeError(f"{self.implementation} is no modality of the name {self.name!r}.")
        return cast("type[Modality[Any]]", found)  # of items that only it knows

    def decoding_options(self, options: Mapping[str, object]) -> DecodingOptions:
        """Returns the options of `decode`, checked.

        Raises:
            TypeError: if there is no option of a name.
            ValueError: if a value is out of range.
        """
        known = self.decoding.model_fields
        if unknown := [name for name in options if name not in known]:
            raise TypeError(
                f"Unknown options: {', '.join(unknown)}. Besides the arguments of `generate`, outputs of modality "
                f"{self.name!r} take {', '.join(known) or 'none'}."
            )
        return checked(self.decoding, options)
