"""The tasks of the studio: what is filled in, what is made of it, and examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import ShownAs
from versatile_diffusion.modalities.text_spec import TEXT
from versatile_diffusion.studio.asking import (
    MIXED_IMAGES,
    ask_for_variations,
    ask_of_both,
    ask_of_embeddings,
    ask_of_image,
    ask_of_mixture,
    ask_of_text,
    ask_to_edit,
)
from versatile_diffusion.studio.controls import (
    AudioControl,
    Control,
    FileControl,
    ImageControl,
    MaskedImageControl,
    NumberControl,
    ShareControl,
    SwitchControl,
    TextControl,
    Values,
)


@dataclass(frozen=True)
class StudioTask:
    """A task.

    Attributes:
        key: its name in addresses and files, of lower-case letters, digits and hyphens.
        title: the title of its tab.
        hint: what it does, in a line.
        to: the modality that it makes.
        controls: what there is to fill in.
        ask: turns what was filled in into fields of `GenerateIn`; it raises `MissingInput`.
        prompted: its text may name whatever the model knows, of which people are shown a list.
    """

    key: str
    title: str
    hint: str
    to: str
    controls: Sequence[Control]
    ask: Callable[[Values], Mapping[str, object]]
    prompted: bool = False

    def takes(self, modality: str) -> Control | None:
        """Returns the control where a result of that modality can be put as input; None if there is none."""
        return self.takes_shown(shown_as(modality))

    def takes_shown(self, kind: ShownAs) -> Control | None:
        """Returns the control where a result that is shown so can be put as input; None if there is none."""
        takers: dict[ShownAs, tuple[type[Control], ...]] = {
            ShownAs.IMAGE: (ImageControl, MaskedImageControl),
            ShownAs.TEXT: (TextControl,),
            ShownAs.AUDIO: (AudioControl,),
        }
        return next((control for control in self.controls if isinstance(control, takers.get(kind, ()))), None)


def shown_as(modality: str) -> ShownAs:
    """Returns how results of a modality are shown; as files, if the package that knows it is no longer there."""
    try:
        return modality_spec(modality).codec.shown_as
    except ValueError:
        return ShownAs.FILE


# ---- the tasks of the paper ----


def mixed_image_controls(number: int) -> list[Control]:
    """Returns what there is to fill in for one of the images of a mixture."""
    group = f"Picture {number}"
    return [
        MaskedImageControl(f"picture{number}", group, "Paint over what is to be left out.", group=group),
        ShareControl(f"weight{number}", "Weight", group=group, default=1.0),
        ShareControl(f"focus{number}", "Focus", "0 keeps what is shown, 1 keeps how it looks.", group=group),
    ]


PROMPT = TextControl("prompt", "Text", placeholder="a watercolor of a red lighthouse by the sea")
IMAGE_CONTROL = ImageControl("picture", "Picture")

TASKS = (
    StudioTask(
        "text-to-image",
        "Text to image",
        "Pictures of what you write.",
        IMAGE.name,
        [PROMPT],
        ask_of_text,
        prompted=True,
    ),
    StudioTask(
        "image-to-text",
        "Image to text",
        "Texts about a picture.",
        TEXT.name,
        [IMAGE_CONTROL],
        ask_of_image,
    ),
    StudioTask(
        "image-variation",
        "Image variation",
        "Other pictures like a picture.",
        IMAGE.name,
        [
            IMAGE_CONTROL,
            ShareControl(
                "fidelity", "Fidelity", "How much of the layout is kept: 0 is free, 1 is the picture itself.", default=0
            ),
            ShareControl("focus", "Focus", "0 keeps what is shown, 1 keeps how it looks, 0.5 keeps both."),
            SwitchControl("colors", "Keep the colours", "Give the results the colour statistics of the picture."),
        ],
        ask_for_variations,
    ),
    StudioTask(
        "text-variation",
        "Text variation",
        "Other texts that say much the same.",
        TEXT.name,
        [PROMPT],
        ask_of_text,
    ),
    StudioTask(
        "dual-context",
        "Dual context",
        "Pictures of a text and a picture at once.",
        IMAGE.name,
        [
            PROMPT,
            IMAGE_CONTROL,
            ShareControl("share", "Share of the text", "0 is the picture alone, 1 the text alone."),
        ],
        ask_of_both,
    ),
    StudioTask(
        "multi-context",
        "Multi-context",
        "One picture from up to four, and a text. Paint over what is to be left out of a picture.",
        IMAGE.name,
        [
            PROMPT,
            ShareControl("weight", "Weight of the text", default=1.0),
            *(control for number in range(1, MIXED_IMAGES + 1) for control in mixed_image_controls(number)),
        ],
        ask_of_mixture,
    ),
    StudioTask(
        "edit",
        "Edit",
        "A picture changed by words.",
        IMAGE.name,
        [
            IMAGE_CONTROL,
            TextControl("prompt", "What it is to become", placeholder="make this picture an oil painting"),
            TextControl("remove", "What is to go", placeholder="lighthouse"),
            TextControl("add", "What is to come", placeholder="windmill"),
            ShareControl("share", "Share of the words", "The rest is the old picture's.", default=0.8),
            ShareControl("strength", "Strength", "Below 1 keeps some of the layout, 0 keeps all.", default=1.0),
        ],
        ask_to_edit,
    ),
    StudioTask(
        "reconstruct",
        "Reconstruct",
        "Pictures of CLIP embeddings, such as those predicted from scans of a brain; `vd embed` writes some.",
        IMAGE.name,
        [
            FileControl(
                "file",
                "File of embeddings",
                ".safetensors or .npz with arrays image and text, or .npy of one.",
                suffixes=(".safetensors", ".npz", ".npy"),
            ),
            NumberControl("scan", "Scan", "Row of the file, counted from 0.", default=0, minimum=0, whole=True),
            ShareControl("share", "Share of the image", "Where the file holds a text as well."),
        ],
        ask_of_embeddings,
    ),
)
