"""Controls as components of gradio: how they look, and how values go in and out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.data_classes import FileData, ImageData
from PIL import Image, ImageChops

from versatile_diffusion.modalities.image_files import open_upload
from versatile_diffusion.modalities.image_spec import UPLOADED
from versatile_diffusion.provenance import png
from versatile_diffusion.studio.controls import (
    Control,
    Count,
    Embeddings,
    NamedFile,
    Painted,
    Painting,
    Picture,
    Share,
    Switch,
    Values,
    Words,
)
from versatile_diffusion.studio.visitors import Visitor

MOST_PIXELS = 16_000_000
BRUSH = "#e11d48"
_HEIGHT = 280


class Form:
    """Components of controls, made where they are to stand.

    Args:
        controls: in their order.

    Attributes:
        components: by the names of controls.
    """

    def __init__(self, controls: Sequence[Control]) -> None:
        self.controls = {control.name: control for control in controls}
        self.components: dict[str, Component] = {}
        groups = [(group, list(members)) for group, members in groupby(controls, lambda control: control.group)]
        first = next((group for group, _ in groups if group), "")
        for group, members in groups:
            with gr.Accordion(group, open=group == first) if group else nullcontext():
                for control in members:
                    self.components[control.name] = component(control)

    def read(self, given: Mapping[str, Any], visitor: Visitor) -> dict[str, Any]:
        """What a visitor filled in, from values of the components. Raises ValueError if a file cannot be used."""
        return {name: value_of(control, given[name], visitor) for name, control in self.controls.items()}

    def fill(self, values: Values, visitor: Visitor) -> Iterator[tuple[Component, Any]]:
        """Components with what they are to show; those without a value become as they were at first."""
        for name, control in self.controls.items():
            value = values[name] if name in values else getattr(control, "default", None)
            yield self.components[name], shown(control, value, visitor)

    def fill_one(self, control: Control, value: Any, visitor: Visitor) -> Iterator[tuple[Component, Any]]:
        """The component of one control with what it is to show."""
        yield self.components[control.name], shown(control, value, visitor)


def component(control: Control) -> Component:
    """How a control looks."""
    named: dict[str, Any] = {"label": control.label, "elem_id": None}
    info: dict[str, Any] = {"info": control.info or None}
    match control:
        case Words():
            return gr.Textbox(**named, **info, placeholder=control.placeholder, lines=1, max_lines=6)
        case Share():
            return gr.Slider(0, 1, control.default, step=0.01, **named, **info)
        case Count():
            return gr.Number(control.default, precision=0, minimum=0, **named, **info)
        case Switch():
            return gr.Checkbox(control.default, **named, **info)
        case Picture():
            image = gr.Image(**named, type="filepath", format="png", height=_HEIGHT, sources=["upload", "clipboard"])
            image.preprocess = _path
            return image
        case Painted():
            editor = gr.ImageEditor(
                **named,
                format="png",
                height=_HEIGHT + 120,
                canvas_size=(256, 256),
                sources=["upload", "clipboard"],
                transforms=(),
                layers=False,
                brush=gr.Brush(default_size=24, colors=[BRUSH], color_mode="fixed"),
            )
            editor.convert_and_format_image = _layer_path
            return editor
        case Embeddings():
            return gr.File(**named, type="filepath", file_types=[".safetensors", ".npz", ".npy"])
        case _:
            raise AssertionError(control)


# Pictures are handed on as paths: whether a visitor may read one is for `Visitor` to say, and what is wrong with it for
# `open_upload`. These stand in for methods of components, not in subclasses, because gradio writes a file beside the
# source of every subclass.


def _path(payload: ImageData | None) -> str | None:
    return None if payload is None else payload.path


def _layer_path(file: FileData | bytes | None, flatten_on_white: bool = False) -> str | None:
    return file.path if isinstance(file, FileData) else None


def value_of(control: Control, given: Any, visitor: Visitor) -> Any:
    """The value of a control, from that of its component. Raises ValueError if the visitor may not read a file."""
    if given is None:
        return None
    match control:
        case Picture():
            return canonical(visitor.read(given))
        case Painted():
            return _painting(given, visitor)
        case Embeddings():
            return NamedFile(Path(given).name, visitor.read(given))
        case _:
            return given


def shown(control: Control, value: Any, visitor: Visitor) -> Any:
    """The value of a component, from that of its control; its files are made for the visitor."""
    match value:
        case bytes() if isinstance(control, Picture):
            return visitor.write("image.png", value)
        case bytes():
            return _editor(Painting(value), visitor)
        case Painting():
            return _editor(value, visitor)
        case NamedFile():
            return visitor.write(value.name, value.content)
        case _:
            return value


def canonical(content: bytes) -> bytes:
    """A picture as a PNG that depends on nothing but its pixels. Raises ValueError if it is none."""
    picture = open_upload(content, UPLOADED, MOST_PIXELS)
    return png(picture if picture.mode in ("L", "RGB", "RGBA") else picture.convert("RGB"))


def _painting(given: Mapping[str, Any], visitor: Visitor) -> Painting | None:
    """A picture and its mask: what is painted in any layer is hidden. Raises ValueError if it is no picture."""
    background = given["background"]
    if background is None:
        return None
    picture = open_upload(visitor.read(background), UPLOADED, MOST_PIXELS)
    hidden = Image.new("L", picture.size)
    for layer in given["layers"] or ():
        painted = open_upload(visitor.read(layer), UPLOADED, MOST_PIXELS).convert("RGBA").getchannel("A")
        hidden = ImageChops.lighter(hidden, painted.resize(picture.size))
    mask = None if hidden.getbbox() is None else png(hidden.point([255] * 128 + [0] * 128))
    is_opaque = picture.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    return Painting(png(picture.convert("RGB") if is_opaque else picture), mask)


def _editor(value: Painting, visitor: Visitor) -> dict[str, Any]:
    picture = Image.open(BytesIO(value.picture)).convert("RGBA")
    layers = []
    if value.mask is not None:
        seen = Image.open(BytesIO(value.mask)).convert("L").resize(picture.size)
        layer = Image.new("RGBA", picture.size, BRUSH)
        layer.putalpha(ImageChops.invert(seen))
        layers = [layer]
    composite = picture.copy()
    for layer in layers:
        composite.alpha_composite(layer)
    return {
        "background": visitor.write("background.png", png(picture)),
        "layers": [visitor.write("layer.png", png(layer)) for layer in layers],
        "composite": visitor.write("composite.png", png(composite)),
    }
