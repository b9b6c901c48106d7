"""How figures were measured, in the words that are printed with them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from pydantic import TypeAdapter

from versatile_diffusion import __version__
from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.evaluation.making import MODEL, SETTINGS, OutputMaker
from versatile_diffusion.evaluation.samples import EvaluationSample
from versatile_diffusion.evaluation.settings import EvaluationOptions
from versatile_diffusion.evaluation.tokens import TOKENISATION
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.image_spec import IMAGE

_SETTINGS = TypeAdapter(dict[str, object])


def common_protocol(
    options: EvaluationOptions, data: CaptionedData, samples: Sequence[EvaluationSample]
) -> dict[str, str]:
    """Returns what holds for all flows."""
    return {
        "set": f"{options.data} ({data.format.about})",
        "N": f"{len(samples)}, chosen at random, seed {options.seed}",
        "95 %": f"± 1.96 standard errors of {options.bootstrap} bootstrap draws" if options.bootstrap else "left out",
        "versions": ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers")),
        "measured by": f"versatile-diffusion {__version__}",
    }


def flow_protocol(
    options: EvaluationOptions, flow: Flow, makers: Sequence[OutputMaker], sizes: str | None = None
) -> dict[str, str]:
    """Returns what holds for one flow: how its outputs were made, and what is compared.

    Args:
        options: of the evaluation.
        flow: the flow.
        makers: of all flows; that of this one knows how its outputs were made.
        sizes: of the images that were made.
    """
    told = {"made of": _context(flow)}
    if options.made is not None:
        told["made by"] = f"others, in {options.made}"
    else:
        folder = next(maker.folder for maker in makers if maker.flow == flow)
        for file in (folder / SETTINGS, folder / MODEL):
            made = _SETTINGS.validate_json(file.read_bytes()) if file.exists() else {}
            told |= {name.replace("_", " "): str(value) for name, value in made.items() if value is not None}
    if flow.output == IMAGE.name:
        told["crop"] = "largest centre square of either, bicubic with antialiasing"
        told["size"] = f"made at {sizes}; compared at {options.size}×{options.size} (FID), at the network's own (CLIP)"
    else:
        told["references"] = (
            "all captions of the image" if flow.context == IMAGE.name else "the other captions of the sample, if any"
        )
        told["tokens"] = TOKENISATION
    return told


def _context(flow: Flow) -> str:
    return "the sample's image" if flow.context == IMAGE.name else "one caption of each sample, chosen at random"
