"""Whatever is uploaded to the studio, it is used or answered in words."""

import random

from tests.mutations import LONGEST, array_files, image_files, mutated, text_files
from tests.unit.studio.test_tasks import LIGHTHOUSE, job
from versatile_diffusion.studio.controls import MaskedImage, NamedFile

EACH = 25
"""Mutations of each kind of file in each place."""


def told(key: str, **values: object) -> str | None:
    """What the studio says of values that it cannot use, which is all that it may raise."""
    try:
        job(key, **values)
    except ValueError as error:
        return str(error)
    return None


def test_damaged_files_are_told_in_words() -> None:
    draw, used = random.Random(5), 0
    pictures = list((image_files() | text_files()).values())
    for content in pictures:
        for _ in range(EACH):
            damaged = mutated(content, draw)
            for message in (
                told("image-variation", picture=damaged),
                told("multi-context", picture2=MaskedImage(damaged, LIGHTHOUSE)),
                told("multi-context", picture2=MaskedImage(LIGHTHOUSE, damaged)),
            ):
                used += message is None
                assert message is None or (0 < len(message) < LONGEST), message
    for suffix, content in (array_files() | text_files()).items():
        for _ in range(EACH):
            message = told("reconstruct", file=NamedFile(f"given{suffix}", mutated(content, draw)))
            assert message is None or (0 < len(message) < LONGEST and "/tmp" not in message), message
    assert used > 20
