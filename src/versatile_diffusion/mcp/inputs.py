"""Arguments of tools as requests take them: content blocks as their data, addresses as files that are sent along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from versatile_diffusion.mcp.addresses import Addressed, is_address
from versatile_diffusion.serving.uploads import Refused


@dataclass
class Arguments:
    """Arguments of a call.

    Args:
        at: returns what is at an address.
        most: bytes that all texts and data of a call may have.

    Attributes:
        files: what the arguments name, by its address.
    """

    at: Callable[[str], Addressed]
    most: int
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def read(self, given: Mapping[str, object]) -> dict[str, object]:
        """Returns the arguments as `GenerateIn` and tools read them.

        Raises:
            Refused: if there is nothing at an address, or there are more bytes than a call may have.
        """
        return {name: self._read(value) for name, value in given.items()}

    def _read(self, given: object) -> object:
        match given:
            case str():
                self._count(given)
                return self._named(given) if is_address(given) else given
            case list():
                return [self._read(one) for one in cast("list[object]", given)]
            case {"type": str(), "data": str(data), "mimeType": str()}:
                return self._read(data)
            case {"resource": {"blob": str(data)}}:
                return self._read(data)
            case Mapping():
                return self.read(cast("Mapping[str, object]", given))
            case _:
                return given

    def _named(self, place: str) -> object:
        """Words as they are, anything else as a file that is sent along."""
        content = self.at(place).content
        self._count(content)
        if isinstance(content, str):
            return content
        self.files[place] = content
        return {"file": place}

    def _count(self, content: str | bytes) -> None:
        self.most -= len(content)
        if self.most < 0:
            raise Refused("That is more than a call may send: give smaller pictures, or fewer.")
