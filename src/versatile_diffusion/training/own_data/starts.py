"""Starts that no folder holds as a whole: the layers of one model, or new ones, with encoders from elsewhere.

Such a start is written to the folder of its run once, as a model like any other. So it is the same when the run goes
on, and a LoRA that is trained on it has a model that it belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from versatile_diffusion.checkpoints import Checkpoint, CheckpointError, Wanted, write
from versatile_diffusion.checkpoints.components import DIFFUSER, empty_diffuser, official_scheduler
from versatile_diffusion.checkpoints.encoder_sources import (
    AUTOENCODER,
    CONTEXT_ENCODER,
    EncoderPart,
    FindPart,
    assembled,
    encoder_source,
)
from versatile_diffusion.checkpoints.folder import is_ours
from versatile_diffusion.checkpoints.sources import read_source
from versatile_diffusion.checkpoints.tensors import LazyTensor
from versatile_diffusion.diffuser import Diffuser, DiffuserConfig
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.registry import modality_names
from versatile_diffusion.processes import processes
from versatile_diffusion.training.own_data.fresh_layers import fresh_tensors
from versatile_diffusion.training.own_data.named_presets import named_preset
from versatile_diffusion.training.settings.stage_settings import PRESET

CONTEXT_LAYERS = "context_layers"


def is_assembled(start: str, encoders: Sequence[str]) -> bool:
    """Tells whether a start has to be put together first."""
    return bool(encoders) or start.startswith(PRESET)


def write_start(start: str, encoders: Sequence[str], flows: Sequence[Flow] | None, seed: int, folder: Path) -> Path:
    """Returns the folder of a start, which is put together and written unless it is there.

    Args:
        start: see `assemble`.
        encoders: see `assemble`.
        flows: see `assemble`.
        seed: see `assemble`.
        folder: to write.

    Raises:
        CheckpointError: see `assemble`.
    """
    with processes().main_process_first():
        if not is_ours(folder):
            write(assemble(start, encoders, flows, seed), folder)
    return folder


def assemble(start: str, encoders: Sequence[str], flows: Sequence[Flow] | None, seed: int) -> Checkpoint:
    """Puts a start together, and leaves its tensors on disk.

    Layers that the model lacks begin at random; but context layers begin as those that it has for another context, if
    these take tokens of the same width. So the paper's single flow began: image variation, from Stable Diffusion.

    Args:
        start: a model, whose layers and encoders are taken, or "preset:NAME" for new layers of these sizes.
        encoders: where autoencoders and context encoders come from that the model does not have; the first that has
            one is taken. See `encoder_source`.
        flows: that are to be learnt; all that there are encoders for if None.
        seed: of new layers.

    Raises:
        CheckpointError: if an encoder is missing, or does not fit; the message says which flow needs it.
    """
    base = None if start.startswith(PRESET) else read_source(start)
    places = [*([] if base is None else [start]), *encoders]
    sources = [encoder_source(place) for place in places]
    wanted = _wanted(sources, flows, places)
    modalities, tensors = assembled(_parts(sources, wanted))
    sizes = named_preset(start).diffuser if base is None else _sizes(base.diffuser)
    diffuser = empty_diffuser(sizes, modalities, wanted)
    tensors[DIFFUSER] = fresh_tensors(diffuser, seed) | ({} if base is None else dict(_taken(diffuser, base, start)))
    return Checkpoint(diffuser, modalities, official_scheduler() if base is None else base.scheduler, tensors)


def _wanted(sources: Sequence[FindPart], flows: Sequence[Flow] | None, places: Sequence[str]) -> Wanted:
    """The modalities that the flows need, or all that there are encoders for."""
    outputs, contexts = (
        [name for name in modality_names() if any(find(name, part) for find in sources)]
        for part in (AUTOENCODER, CONTEXT_ENCODER)
    )
    for flow in flows or ():
        for name, has, part in ((flow.output, outputs, "autoencoder"), (flow.context, contexts, "context encoder")):
            if name not in has:
                raise CheckpointError(
                    f"{flow} needs the {part} of {name}s, which is not in {' or '.join(places) or 'a preset'}: name a "
                    "model that has it with --encoders, such as shi-labs/versatile-diffusion, or leave that flow out."
                )
    if not (outputs and contexts):
        raise CheckpointError(
            f"There is no {'context encoder' if outputs else 'autoencoder'} in {', '.join(places)}: name a model that "
            "has one with --encoders, such as shi-labs/versatile-diffusion."
        )
    return Wanted.of(flows, outputs, contexts, " and ".join(places))


def _parts(sources: Sequence[FindPart], wanted: Wanted) -> Mapping[str, Mapping[str, EncoderPart]]:
    """The parts of each modality, from the first source that has it."""
    needed = [(name, AUTOENCODER) for name in wanted.outputs] + [(name, CONTEXT_ENCODER) for name in wanted.contexts]
    found: dict[str, dict[str, EncoderPart]] = {}
    for name, part in needed:
        found.setdefault(name, {})[part] = next(each for find in sources if (each := find(name, part)) is not None)
    return found


def _sizes(diffuser: Diffuser) -> DiffuserConfig:
    return DiffuserConfig(**{field.name: diffuser.config[field.name] for field in fields(DiffuserConfig)})


def _taken(diffuser: Diffuser, base: Checkpoint, start: str) -> Iterator[tuple[str, LazyTensor]]:
    """The tensors that come from the model, also those of the context layers that begin as others of it."""
    held = base.tensors[DIFFUSER]
    yield from ((key, tensor) for key, tensor in held.items() if key in diffuser.state_dict())
    known: dict[str, int] = base.diffuser.config["context_dims"]
    for name, width in diffuser.config["context_dims"].items():
        if name in known:
            continue
        like = next((other for other, other_width in known.items() if other_width == width), None)
        if like is None:
            raise CheckpointError(
                f"The context layers of {start} take tokens of {', '.join(map(str, known.values()))} numbers, and the "
                f"context encoder of {name}s gives tokens of {width}: take one of the same width, such as "
                "openai/clip-vit-large-patch14 for Stable Diffusion v1."
            )
        for key, tensor in held.items():
            if key.startswith(f"{CONTEXT_LAYERS}.{like}."):
                yield key.replace(f"{CONTEXT_LAYERS}.{like}.", f"{CONTEXT_LAYERS}.{name}.", 1), tensor
