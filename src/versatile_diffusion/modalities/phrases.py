"""Repeated words and phrases, which sampled texts are prone to."""

from __future__ import annotations

_OPENING, _CLOSING = "([{", "?!.,:;}])"
_GLUE = ""  # stands between a punctuation mark and the word it touches; no word is empty


def remove_repetition(text: str) -> str:
    """Removes words and phrases that repeat what stands right before them, shortest first, as the official demo does.

    Punctuation marks at the ends of words count as words, and capitals matter.
    """
    words = [piece for word in text.split() for piece in _pieces(word)]
    length = 1
    while 2 * length <= len(words):
        words = _without_repeats(words, length)
        length += 1
    return " ".join(words).replace(f" {_GLUE} ", "").strip()


def _without_repeats(words: list[str], length: int) -> list[str]:
    start = 0
    while start + 2 * length <= len(words):
        middle = start + length
        if words[start:middle] == words[middle : middle + length]:
            words = words[:middle] + words[middle + length :]
            start = max(0, start - length)  # what moved up may repeat what stands before
        else:
            start += 1
    return words


def _pieces(word: str) -> list[str]:
    """A word and the marks at its ends, glue between them."""
    inner = word.lstrip(_OPENING)
    opening = word[: len(word) - len(inner)]
    core = inner.rstrip(_CLOSING)
    closing = inner[len(core) :]
    pieces = [piece for mark in opening for piece in (mark, _GLUE)]
    return [*pieces, *([core] if core else []), *(piece for mark in closing for piece in (_GLUE, mark))]
