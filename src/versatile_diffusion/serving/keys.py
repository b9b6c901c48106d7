"""API keys, and who may ask without one. Nothing here takes long to import, so that it is checked before all else."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path

KEYS_VARIABLE = "VD_API_KEYS"
_SHORTEST_KEY = 16


class Keys:
    """API keys, of which only digests are held.

    Args:
        keys: none of them means that everybody may ask.

    Raises:
        ValueError: if one is short enough to be guessed.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        known = list(dict.fromkeys(keys))
        if any(len(key) < _SHORTEST_KEY for key in known):
            raise ValueError(f"An API key must have {_SHORTEST_KEY} characters at least: make one with `openssl rand`.")
        self._digests = [_digest(key) for key in known]

    @classmethod
    def read(cls, variable: str | None, file: Path | None) -> Keys:
        """Keys of an environment variable, with commas between them, and of a file, one a line; # begins a remark.

        Raises:
            ValueError: if a key is too short, or the file holds none.
            OSError: if the file cannot be read.
        """
        keys = [key.strip() for key in (variable or "").split(",")]
        if file is not None:
            lines = [line.partition("#")[0].strip() for line in file.read_text().splitlines()]
            if not any(lines):
                raise ValueError(f"{file} holds no API key: write one a line.")
            keys += lines
        return cls(key for key in keys if key)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, key: str) -> str | None:
        """A name for whoever has the key; None if it is wrong. The time it takes does not depend on the key."""
        digest, found = _digest(key), None
        for known in self._digests:
            if hmac.compare_digest(known, digest):
                found = known.hex()[:12]
        return found


def require_keys(host: str, keys: Keys | None) -> None:
    """Raises ValueError if others than this machine could ask without a key."""
    if not keys and not is_loopback(host):
        raise ValueError(
            f"At {host} others can reach the server: give keys with --keys FILE or VD_API_KEYS, or listen at 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()
