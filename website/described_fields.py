"""Has the reference show what fields of pydantic say of themselves, in `Annotated[…, Field(description="…")]`."""

from __future__ import annotations

import ast
from typing import Any

import griffe


class DescribedFields(griffe.Extension):
    """Takes the description of a field as its docstring, and the type alone as its annotation."""

    def on_attribute_instance(self, *, node: ast.AST | griffe.ObjectNode, attr: griffe.Attribute, **_: Any) -> None:
        """Reads one attribute of a class, from its source."""
        match node, attr.annotation:
            case (
                ast.AnnAssign(annotation=ast.Subscript(value=ast.Name(id="Annotated"), slice=ast.Tuple(elts=parts))),
                griffe.ExprSubscript(slice=griffe.ExprTuple(elements=[kind, *_])),
            ):
                attr.annotation = kind
                said = [text for part in parts[1:] if (text := _description(part))]
                if said and attr.docstring is None:
                    attr.docstring = griffe.Docstring(said[0], parent=attr)


def _description(part: ast.expr) -> str | None:
    match part:
        case ast.Call(func=ast.Name(id="Field"), keywords=keywords):
            found = (keyword.value for keyword in keywords if keyword.arg == "description")
            return next((ast.literal_eval(value) for value in found if isinstance(value, ast.Constant)), None)
    return None
