"""Words of captions, as measures of captions count them."""

from __future__ import annotations

import re

TOKENISATION = (
    "lower case, punctuation left out, contractions apart (it 's, do n't), hyphenated words whole: what COCO's "
    "tokenizer (PTB, in Java) makes of plain English"
)

_WORD = re.compile(
    r"""
    \d+(?:[.,]\d+)+          # 3.5, 1,000
    | \w+(?=n't\b) | n't\b   # do n't
    | '(?:s|m|d|re|ve|ll)\b  # it 's
    | \w+(?:-\w+)*           # black-and-white
    """,
    re.VERBOSE,
)
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'"})


def caption_tokens(text: str) -> list[str]:
    """Returns the words of a caption; see `TOKENISATION`."""
    return _WORD.findall(text.lower().translate(_APOSTROPHES))
