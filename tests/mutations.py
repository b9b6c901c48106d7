"""Files of every kind that people have, and what becomes of them when they are damaged: the same from the same seed."""

import io
import json
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

LONGEST = 2000
"""Characters of a message that fit on a screen."""


def image_files() -> dict[str, bytes]:
    """A small image in every format that PIL writes, by the suffix of the format."""
    Image.init()
    suffixes = {name: suffix for suffix, name in reversed(Image.EXTENSION.items()) if name in Image.OPEN}
    levels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    found: dict[str, bytes] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, suffix in sorted(suffixes.items()):
            for mode in ("RGBA", "RGB", "L", "1"):
                file = io.BytesIO()
                try:
                    Image.fromarray(levels).convert(mode).save(file, name)
                    found.setdefault(suffix, file.getvalue())
                except Exception:  # not a mode of this format, or no encoder for it here
                    continue
    sixteen = io.BytesIO()
    Image.fromarray(levels[..., 0].astype(np.uint16) * 200).save(sixteen, "PNG", exif=b"{'seed': 7}")
    return found | {".apng": sixteen.getvalue()}


def array_files(width: int = 24, tokens: int = 5) -> dict[str, bytes]:
    """Embeddings of two scans as people save them, by the suffix."""
    embedding = np.random.default_rng(0).normal(size=(2, tokens, width)).astype(">f8")
    array, arrays = io.BytesIO(), io.BytesIO()
    np.save(array, embedding)
    np.savez(arrays, image=embedding)
    tensor = torch.from_numpy(embedding.astype("f4"))
    return {
        ".npy": array.getvalue(),
        ".npz": arrays.getvalue(),
        ".safetensors": save({"image": tensor}, metadata={"names": '["a", "b"]'}),
    }


def text_files() -> dict[str, bytes]:
    """Texts, lists and settings, by the suffix."""
    entries = [{"text": "a tent", "seed": 5}, {"text": "a tree"}, {"text": "ein größeres Zelt"}]
    return {
        ".txt": "a tent\n\nein größeres Zelt\n".encode(),
        ".jsonl": "\n".join(map(json.dumps, entries)).encode(),
        ".json": json.dumps(entries).encode(),
        ".csv": b"text,seed\na tent,5\n",
        ".md": b"# tents\n",
        ".yaml": b"images: 20\nkl:\n  steps: 3\n  learning_rate: 1e-4\n",
        "": b"a tent\n",
    }


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Returns content that was cut, flipped, filled, doubled or mixed with something else, in up to three places."""
    for _ in range(draw.randint(1, 3)):
        content = draw.choice(_WAYS)(content, draw)
    return content


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randint(0, len(content))]


def _flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(min(len(changed), draw.choice((1, 1, 2, 8)))):
        place = draw.randrange(min(len(changed), draw.choice((40, 200, 10**9))))
        changed[place] = draw.choice((0, 255, changed[place] ^ 1 << draw.randrange(8), draw.randrange(256)))
    return bytes(changed)


def _spliced(content: bytes, draw: random.Random) -> bytes:
    first, last = sorted(draw.randint(0, len(content)) for _ in range(2))
    middle = draw.choice((b"", content[first:last] * 2, draw.randbytes(draw.randint(1, 9)), b"\0" * (last - first)))
    return content[:first] + middle + content[last:]


def _worded(content: bytes, draw: random.Random) -> bytes:
    place = draw.randint(0, len(content))
    words = (
        b"\xff\xfe",
        b"\n",
        b"\r\n\0",
        b'"\\ud83d"',
        b"NaN",
        b"1e999",
        b"[" * 2000,
        b"{",
        b"9" * 5000,
        b"&a [*a]",
        b"-1",
    )
    return content[:place] + draw.choice(words) + content[place:]


_WAYS: tuple[Callable[[bytes, random.Random], bytes], ...] = (_cut, _flipped, _flipped, _spliced, _worded)

ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 10**30, 20.0, 1.5, -0.5, float("nan"), float("inf"), -float("inf"), 3j, ...),
    *(
        "",
        "20",
        "0.5",
        "rain",
        "a" * 100_000,
        "\ud83d",
        "x\0y",
        "data:image/png;base64,AAAA",
        "data:",
        "data:," + "A" * 9999,
    ),
    *(
        "/",
        "/dev/null",
        "nowhere.png",
        b"bytes",
        [],
        [[]],
        (),
        {},
        set(),
        object(),
        int,
        len,
        range(3),
        [None],
        [1, "a"],
    ),
    *(np.float32(0.5), np.int64(3), np.array([]), np.array(3), np.zeros((2, 5, 24)), np.full((1, 5, 24), np.nan)),
    *(
        np.array(["a"]),
        np.array([None]),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((16, 16), ">u2"),
        np.ones((8, 8), bool),
    ),
    *(torch.tensor(0.5), torch.zeros(0), torch.zeros(2, 3), torch.ones(1, 5, 24), torch.ones(1, 5, 24).half()),
    *(torch.ones(3, 8, 8), torch.zeros(3, device="meta"), torch.ones(2, 2).to_sparse(), torch.tensor([1j])),
    *(Image.new("RGB", (1, 1)), Image.new("RGBA", (3, 2)), Image.new("I;16", (9, 9)), Image.new("F", (400, 1))),
    *(["a tent", "a tree"], [Image.new("L", (2, 2))], [[0.5] * 24] * 5, [torch.ones(5, 24)] * 2, torch.Generator()),
)
"""Values of which few are what an argument takes."""
