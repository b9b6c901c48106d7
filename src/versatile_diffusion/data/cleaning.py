"""Captions as flows to texts learn them: cleaned, as the paper does (section 4.1). Contexts see them as they are."""

from __future__ import annotations

import html
import re

_LEFT_OUT = (
    re.compile(r"<[^<>]{0,200}>"),  # tags
    re.compile(r"(https?://|www\.)\S+"),
    re.compile(r"\S+@\S+\.\w+"),  # mail addresses
    re.compile(r"\b\S+\.(jpe?g|png|gif|webp|tiff?|bmp|svg|pdf|mp4)\b", re.IGNORECASE),
    re.compile(r"[#@]\w+"),
    re.compile(r"(?<!\w)\+?\d[\d ()-]{7,}\d(?!\w)"),  # telephone numbers
)
_REPEATED = re.compile(r"([^\w\s])\1+")
_SPACE = re.compile(r"[\s_|~*^]+")


def clean_caption(text: str) -> str:
    """Returns a caption without what a model should not learn to write: tags, addresses, names of files, numbers.

    A caption of which nothing would be left stays as it is.
    """
    cleaned = html.unescape(text)
    for pattern in _LEFT_OUT:
        cleaned = pattern.sub(" ", cleaned)
    cleaned = _SPACE.sub(" ", _REPEATED.sub(r"\1", cleaned)).strip(" ,;:-")
    return cleaned if re.search(r"\w", cleaned) else text
