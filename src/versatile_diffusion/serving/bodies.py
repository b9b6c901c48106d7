"""Bodies of requests that may come as JSON or as a form, from clients of all sorts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

from anyio import to_thread
from fastapi import HTTPException, Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.datastructures import UploadFile

from versatile_diffusion.serving.words import in_words

MOST_FILES = 32
_MOST_FIELDS = 64
_FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Body:
    """What a client sent.

    Attributes:
        values: fields by their names.
        files: the contents of files, by the names that the values have for them.
    """

    values: Mapping[str, object]
    files: Mapping[str, bytes]

    def read_as(self, model: type[M]) -> M:
        """The values as a model has them. Raises HTTPException if they are not as expected."""
        try:
            return model.model_validate(self.values)
        except ValidationError as error:
            raise HTTPException(422, in_words(error, model)) from error


def media_type(request: Request) -> str:
    """The type of the body in lower case, without parameters; empty where the client does not say."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def body_of(request: Request, most: int) -> Body:
    """The body of a request: a form, or else JSON, whatever the client calls it.

    Args:
        request: whose body is read.
        most: how many bytes a field of a form may have.

    Raises:
        HTTPException: if it is neither.
    """
    kind = media_type(request)
    if kind not in _FORMS:
        return await to_thread.run_sync(_json, await request.body())
    if kind == _FORMS[1] and (content := await request.body()).lstrip().startswith(b"{"):
        return await to_thread.run_sync(_json, content)  # what curl says of any data
    async with request.form(max_files=MOST_FILES, max_fields=_MOST_FIELDS, max_part_size=most) as form:
        parts = [
            (name, await part.read() if isinstance(part, UploadFile) else part) for name, part in form.multi_items()
        ]
    return _form(parts)


def _json(content: bytes) -> Body:
    try:
        values: object = from_json(content)
    except ValueError as error:
        raise HTTPException(422, f"The body is neither a form nor JSON: {error}.") from error
    if not isinstance(values, dict):
        raise HTTPException(422, 'The body must be an object of JSON, such as {"prompt": "a red tent"}, or a form.')
    return Body(cast("dict[str, object]", values), {})  # the keys of JSON are strings


def _form(parts: Iterable[tuple[str, str | bytes]]) -> Body:
    """Parts of a form; those of one name, and those whose name ends in [], as a list."""
    values: dict[str, object] = {}
    lists: dict[str, list[object]] = {}
    files: dict[str, bytes] = {}
    for number, (name, content) in enumerate(parts):
        value: object = content
        if isinstance(content, bytes):
            files[str(number)] = content
            value = {"file": str(number)}
        known = lists.setdefault(name.removesuffix("[]"), [])
        known.append(value)
        values[name.removesuffix("[]")] = known if len(known) > 1 or name.endswith("[]") else value
    return Body(values, files)
