"""Requests as no client should send them, drawn from a generator with a seed: JSON, forms and files, all damaged."""

import base64
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from random import Random
from typing import Any

import torch
from PIL import Image, features
from safetensors.torch import save

WORDS = ("", " ", "x" * 5000, "\0", "é" * 300, "../../etc/passwd", "http://127.0.0.1/a.png", "null", "auto", "1e9")
URLS = ("data:", "data:image/png;base64,", "data:image/png;base64,!!", "data:;base64," + "A" * 100_000, "data:,words")
NUMBERS = (0, -1, 1, 13, 2**31, 2**64 - 1, 2**64, 10**40, 0.5, 20.0, -0.0, 1e308, 1e-308)
REST = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    [[1.0], [1.0, 2.0]],
    {"file": "a"},
    {"file": 5},
    {"url": {}},
    [{}] * 70,
)
VALUES: tuple[Any, ...] = (*WORDS, *URLS, *NUMBERS, *REST)
NAMES = ("x", "", "size", "start", "negative", "seed", "steps", "height", "width", "edit", "image", "mask", "n", "to")


def broken(random: Random, value: Any) -> Any:
    """The value with some of it replaced, left out, doubled or wrapped."""
    if random.random() < 0.15 or not value or not isinstance(value, dict | list):
        return copy.deepcopy(random.choice(VALUES)) if random.random() < 0.8 else [value]
    changed = copy.deepcopy(value)
    if isinstance(changed, list):
        place = random.randrange(len(changed))
        changed[place] = broken(random, changed[place])
        return changed * random.choice((1, 1, 1, 2, 40))
    name = random.choice(list(changed))
    match random.randrange(4):
        case 0:
            del changed[name]
        case 1:
            changed[random.choice(NAMES)] = random.choice(VALUES)
        case _:
            changed[name] = broken(random, changed[name])
    return changed


def damaged(random: Random, content: bytes) -> bytes:
    """The bytes with some of them changed, lost, doubled or cut off."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 3, 20))):
        place = random.randrange(len(changed) + 1)
        match random.randrange(5):
            case 0:
                changed[place:place] = random.randbytes(random.choice((1, 4, 100)))
            case 1:
                del changed[place : place + random.choice((1, 4, 100))]
            case 2 if len(changed) > place:
                changed[place] = random.choice((0, 0xFF, 0x7F, changed[place] ^ 1 << random.randrange(8)))
            case 3:
                del changed[place:]
            case _:
                changed[place:place] = changed[: random.choice((4, 50))]
    return bytes(changed)


def as_json(random: Random, value: Any) -> bytes:
    """JSON, of which a part is none any more."""
    content = json.dumps(value, allow_nan=True).encode()
    if random.random() < 0.05:
        return content.replace(b"1", b"NaN", 1)
    if random.random() < 0.02:
        return b"[" * 5000 + content
    return damaged(random, content) if random.random() < 0.2 else content


def files() -> dict[str, bytes]:
    """A small file of every kind that somebody may send, by its suffix."""
    image = Image.linear_gradient("L").resize((12, 9))
    formats: Mapping[str, tuple[str, str]] = {
        ".png": ("PNG", "RGBA"),
        ".gif": ("GIF", "P"),
        ".jpg": ("JPEG", "RGB"),
        ".webp": ("WEBP", "RGB"),
        ".bmp": ("BMP", "RGB"),
        ".tif": ("TIFF", "RGB"),
        ".tga": ("TGA", "RGB"),
        ".ppm": ("PPM", "RGB"),
        ".ico": ("ICO", "RGB"),
        ".pcx": ("PCX", "RGB"),
        ".sgi": ("SGI", "RGB"),
        ".jp2": ("JPEG2000", "RGB"),
        ".avif": ("AVIF", "RGB"),
    }
    missing = {kind for kind, name in (("JPEG2000", "jpg_2000"), ("AVIF", "avif")) if not features.check(name)}
    found = {
        suffix: _saved(image.convert(mode), kind) for suffix, (kind, mode) in formats.items() if kind not in missing
    }
    found |= {".tif16": _saved(image.convert("I;16"), "TIFF"), ".png1": _saved(image.convert("1"), "PNG")}
    tensors = save({"tokens": torch.zeros(1, 5, 24)})
    others = {
        ".safetensors": tensors,
        ".txt": b"a red tent\n",
        ".json": b'{"a": 1}',
        ".pdf": b"%PDF-1.7\n",
        ".empty": b"",
    }
    return found | others | {".svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>', ".zip": b"PK\3\4" + bytes(40)}


def _saved(image: Image.Image, kind: str) -> bytes:
    file = BytesIO()
    image.save(file, kind)
    return file.getvalue()


def bodies(picture: bytes) -> dict[str, dict[str, Any]]:
    """A right body of each route, as JSON."""
    text = base64.b64encode(picture).decode()
    tent, seen = {"modality": "text", "data": "a red tent"}, {"modality": "image", "data": text, "mask": text}
    given = {"modality": "text", "embedding": [[0.5] * 24] * 5, "unconditional": "zeros", "weight": 0.5}
    edit = {"prompt": "a blue tent", "remove": "red", "add": "blue", "text_share": 0.5}
    common = {"num_inference_steps": 1, "seed": 3, "num_outputs": 2, "guidance_scale": 3, "wait": True}
    image = {"to": "image", "contexts": [tent, seen, given], "negative": [tent], "height": 8, "width": 8, **common}
    image |= {"start": text, "strength": 0.5, "eta": 0.1, "scheduler": "ddim", "guidance_interval": [0.1, 0.9]}
    ours = {"n": 1, "size": "128x128", "response_format": "b64_json", "output_format": "png", "seed": 3, "steps": 1}
    return {
        "/v1/generate": {**image, "model": "tiny", "preview_every": 1, "colors_of": text},
        "/v1/generate?of": {"to": "text", "contexts": [seen], **common, "temperature": 0.5, "max_tokens": 5},
        "/v1/generate?edit": {"to": "image", "contexts": [{"modality": "image", "data": text}], "edit": edit, **common},
        "/v1/images/generations": {"prompt": "a red tent", "quality": "hd", "style": "vivid", "user": "me", **ours},
        "/v1/images/variations": {"image": text, **ours},
        "/v1/images/edits": {"prompt": "a red tent", "image": [text, text], "mask": {"image_url": text}, **ours},
    }


def requests(random: Random, count: int) -> Iterator[Callable[[Any], Any]]:
    """Calls of a client of httpx, each with something wrong."""
    every = files()
    right = bodies(every[".png"])
    for _ in range(count):
        path, body = random.choice(list(right.items()))
        yield random.choice((_json_request, _json_request, _form_request, _path_request))(random, path, body, every)


def _json_request(random: Random, path: str, body: Any, every: Mapping[str, bytes]) -> Callable[[Any], Any]:
    content = as_json(random, broken(random, body))
    kinds = ("application/json",) * 6 + ("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data")
    return lambda client: client.post(path, content=content, headers={"content-type": random.choice(kinds)})


def _form_request(random: Random, path: str, body: Any, every: Mapping[str, bytes]) -> Callable[[Any], Any]:
    suffix, content = random.choice(list(every.items()))
    content = damaged(random, content) if random.random() < 0.8 else content
    if path.startswith("/v1/generate"):
        named = {"modality": "image", "data": {"file": "a"}, "mask": {"file": random.choice("ab")}}
        tokens = {"modality": "text", "embedding": {"file": "a"}}
        asked = body | {"contexts": [random.choice((named, tokens))], "start": {"file": "a"}}
        fields = {
            "request": as_json(random, asked if random.random() < 0.7 else broken(random, asked)).decode("latin1")
        }
        return lambda client: client.post(path, data=fields, files={"a": (f"a{suffix}", content)})
    fields = {name: str(value) for name, value in body.items() if isinstance(value, str | int)}
    fields = {name: random.choice((value, value, value, "", "[]", "-1")) for name, value in fields.items()}
    name = random.choice(("image", "image", "image[]", "mask", "images", "prompt"))
    return lambda client: client.post(path, data=fields, files=[(name, (f"a{suffix}", content))])


def _path_request(random: Random, path: str, body: Any, every: Mapping[str, bytes]) -> Callable[[Any], Any]:
    known = ("/v1/jobs/", "/v1/models", "/docs", "/openapi.json", "/healthz", "/v1/images/", "/metrics", path)
    wrong = ("", "x", "..%2f..%2fetc", "%00", "%ff", "é", "a" * 300, "/events", "/../..", "?wait=" + "1" * 5000)
    asked = random.choice(known) + random.choice(wrong)
    method = random.choice(("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"))
    return lambda client: client.request(method, asked)
