"""Controls as components of gradio: how they look, and how values go in and out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import cast

import gradio as gr
from gradio.components import Component
from gradio.data_classes import FileData, ImageData
from PIL import Image, ImageChops

from versatile_diffusion.modalities.image_files import exceeds_eight_bits, open_upload
from versatile_diffusion.modalities.image_spec import UPLOADED
from versatile_diffusion.provenance import png
from versatile_diffusion.studio.controls import (
    AudioControl,
    ChoiceControl,
    Control,
    FileControl,
    ImageControl,
    MaskedImage,
    MaskedImageControl,
    NamedFile,
    NumberControl,
    SwitchControl,
    TextControl,
    Values,
)
from versatile_diffusion.studio.visitors import Visitor

MOST_PIXELS = 16_000_000
BRUSH = "#e11d48"
_HEIGHT = 280
_SOURCES = ("upload", "clipboard")
_MOST_STEPS = 1000  # of a slider; beyond it nobody finds a value


class Form:
    """The components of some controls, made where they are to stand.

    Args:
        controls: in their order.

    Attributes:
        controls: by their names.
        components: by the names of their controls.
    """

    def __init__(self, controls: Sequence[Control]) -> None:
        self.controls = {control.name: control for control in controls}
        self.components: dict[str, Component] = {}
        groups = [(group, list(members)) for group, members in groupby(controls, lambda control: control.group)]
        first = next((group for group, _ in groups if group), "")
        for group, members in groups:
            with gr.Accordion(group, open=group == first) if group else nullcontext():
                for control in members:
                    self.components[control.name] = component_of(control)

    def read(self, given: Mapping[str, object], visitor: Visitor) -> dict[str, object]:
        """Returns what a visitor filled in, from values of the components.

        Raises:
            ValueError: if a file cannot be used, or the visitor may not read it.
        """
        return {name: value_of(control, given[name], visitor) for name, control in self.controls.items()}

    def fill(self, values: Values, visitor: Visitor) -> Iterator[tuple[Component, object]]:
        """Yields components with what they are to show; those without a value become as they were at first."""
        for name, control in self.controls.items():
            yield self.fill_one(control, values.get(name, control.initial), visitor)

    def fill_one(self, control: Control, value: object, visitor: Visitor) -> tuple[Component, object]:
        """Returns the component of one control with what it is to show."""
        return self.components[control.name], shown_value(control, value, visitor)


def component_of(control: Control) -> Component:
    """Returns a component that looks as its control should."""
    label, info = control.label, control.info or None
    match control:
        case TextControl():
            return gr.Textbox(label=label, info=info, placeholder=control.placeholder, lines=1, max_lines=6)
        case NumberControl():
            return _number(control)
        case ChoiceControl():
            return gr.Dropdown(list(control.choices), value=control.default, label=label, info=info)
        case SwitchControl():
            return gr.Checkbox(control.default, label=label, info=info)
        case ImageControl():
            return _image(label)
        case MaskedImageControl():
            return _image_editor(label)
        case AudioControl():
            return _audio(label)
        case FileControl():
            return gr.File(label=label, type="filepath", file_types=list(control.suffixes))
        case _:
            raise AssertionError(control)


def _number(control: NumberControl) -> Component:
    """A slider where its ends are known, else a field. What may be empty is a text, since gradio makes nothing a 0."""
    low, high, step = control.minimum, control.maximum, 1 if control.whole else control.step
    label, info = control.label, control.info or None
    if control.default is None:
        return gr.Textbox(label=label, info=info, lines=1, max_lines=1)
    if low is not None and high is not None and (high - low) / step <= _MOST_STEPS:
        return gr.Slider(low, high, control.default, step=step, label=label, info=info)
    return gr.Number(
        control.default, precision=0 if control.whole else None, minimum=low, maximum=high, label=label, info=info
    )


# Images and sounds are handed on as paths: whether a visitor may read one is for `Visitor` to say, and what is wrong
# with it for `open_upload` or a codec. These stand in for methods of components, not in subclasses, because gradio
# writes a file beside the source of every subclass.


def _image(label: str) -> Component:
    image = gr.Image(label=label, type="filepath", format="png", height=_HEIGHT, sources=[*_SOURCES])
    image.preprocess = _path
    return image


def _audio(label: str) -> Component:
    audio = gr.Audio(label=label, type="filepath", sources=["upload", "microphone"])
    audio.preprocess = _path
    return audio


def _image_editor(label: str) -> Component:
    editor = gr.ImageEditor(
        label=label,
        format="png",
        height=_HEIGHT + 120,
        canvas_size=(256, 256),
        sources=_SOURCES,
        transforms=(),
        layers=False,
        brush=gr.Brush(default_size=24, colors=[BRUSH], color_mode="fixed"),
    )
    editor.convert_and_format_image = _layer_path
    return editor


def _path(payload: ImageData | FileData | None) -> str | None:
    return None if payload is None else payload.path


def _layer_path(file: FileData | bytes | None, flatten_on_white: bool = False) -> str | None:
    return file.path if isinstance(file, FileData) else None


# ---- values ----


def value_of(control: Control, given: object, visitor: Visitor) -> object:
    """Returns the value of a control, from that of its component.

    Raises:
        ValueError: if a file cannot be used, or the visitor may not read it.
    """
    match control, given:
        case ImageControl(), str(path):
            return canonical_png(visitor.read(path))
        case FileControl(), str(path):
            return NamedFile(Path(path).name, visitor.read(path))
        case NumberControl(), str(words):
            return _written_number(control, words)
        case MaskedImageControl(), dict():
            return _masked_image(cast("Mapping[str, object]", given), visitor)  # as gradio makes it
        case _:
            return given


def shown_value(control: Control, value: object, visitor: Visitor) -> object:
    """Returns the value of a component, from that of its control; its files are made for the visitor."""
    match value:
        case bytes() if isinstance(control, ImageControl):
            return visitor.write("image.png", value)
        case bytes() if isinstance(control, AudioControl):
            return visitor.write(f"{control.name}{control.suffixes[0]}", value)
        case bytes():
            return _editor_value(MaskedImage(value), visitor)
        case MaskedImage():
            return _editor_value(value, visitor)
        case NamedFile():
            return visitor.write(value.name, value.content)
        case int() | float() if isinstance(control, NumberControl) and control.default is None:
            return str(int(value) if control.whole else value)
        case _:
            return value


def _written_number(control: NumberControl, words: str) -> float | None:
    """A number that was written; None if there is nothing. Raises ValueError if it is no number."""
    if not words.strip():
        return None
    try:
        return int(words) if control.whole else float(words)
    except ValueError as error:
        kind = "a whole number" if control.whole else "a number"
        raise ValueError(f"{control.label} is {kind}, or empty, got {words!r:.80}.") from error


def canonical_png(content: bytes) -> bytes:
    """Returns an image as a PNG that depends on nothing but its pixels; 16 bits stay 16 bits.

    Raises:
        ValueError: if it is no image.
    """
    image = open_upload(content, UPLOADED, MOST_PIXELS)
    return png(image if image.mode in ("L", "RGB", "RGBA") or exceeds_eight_bits(image) else image.convert("RGB"))


def _masked_image(given: Mapping[str, object], visitor: Visitor) -> MaskedImage | None:
    """An image and its mask: what is painted in any layer is hidden. Raises ValueError if it is no image."""
    background = given["background"]
    if not isinstance(background, str):
        return None
    image = open_upload(visitor.read(background), UPLOADED, MOST_PIXELS)
    hidden = Image.new("L", image.size)
    for path in cast("Sequence[str]", given["layers"] or ()):  # as `_layer_path` has them
        painted = _opacity(open_upload(visitor.read(path), UPLOADED, MOST_PIXELS))
        hidden = ImageChops.lighter(hidden, painted.resize(image.size))
    mask = None if hidden.getbbox() is None else png(hidden.point([255] * 128 + [0] * 128))
    return MaskedImage(png(_without_needless_opacity(image)), mask)


def _opacity(layer: Image.Image) -> Image.Image:
    """How much is painted at each pixel of a layer: its opacity, or how bright it is if it is grey without opacity."""
    if layer.mode in ("1", "L") or exceeds_eight_bits(layer):
        return _in_eight_bits(layer).convert("L")
    return layer.convert("RGBA").getchannel("A")


def _without_needless_opacity(image: Image.Image) -> Image.Image:
    """The image without an opacity that is full everywhere, as editors add it."""
    if exceeds_eight_bits(image):
        return image
    is_opaque = image.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    return image.convert("RGB") if is_opaque else image


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """The image with levels that PIL can convert, since it cuts off those of more than 8 bits."""
    if not exceeds_eight_bits(image):
        return image
    from versatile_diffusion.modalities.images import read_images, to_pil  # PyTorch, which most need not wait for

    return to_pil(read_images(image)[0])


def _editor_value(value: MaskedImage, visitor: Visitor) -> dict[str, object]:
    """An image with its mask, as the editor takes it: what is hidden is painted over in a layer."""
    image = _in_eight_bits(Image.open(BytesIO(value.image))).convert("RGBA")
    layers: list[Image.Image] = []
    if value.mask is not None:
        seen = _in_eight_bits(Image.open(BytesIO(value.mask))).convert("L").resize(image.size)
        layer = Image.new("RGBA", image.size, BRUSH)
        layer.putalpha(ImageChops.invert(seen))
        layers = [layer]
    composite = image.copy()
    for layer in layers:
        composite.alpha_composite(layer)
    return {
        "background": visitor.write("background.png", png(image)),
        "layers": [visitor.write("layer.png", png(layer)) for layer in layers],
        "composite": visitor.write("composite.png", png(composite)),
    }
