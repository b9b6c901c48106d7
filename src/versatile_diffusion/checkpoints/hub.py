"""Models on the Hugging Face hub: only the files that some flows need, in the hub's own cache."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, snapshot_download  # pyright: ignore[reportUnknownVariableType] - typed in part
from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from versatile_diffusion.checkpoints import official
from versatile_diffusion.checkpoints.errors import CheckpointError, UnavailableError
from versatile_diffusion.flows import Flow

_TEXTS = re.compile(r".*\.(json|txt|model)")
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?P<variant>\.[\w-]+?)?(?:-\d+-of-\d+)?\.(?P<kind>safetensors|bin)"
)

# The folders and files of Versatile Diffusion in diffusers' layout that an output or a context modality needs.
_OUTPUTS = {"image": {"image_unet", "vae"}, "text": {"text_unet", "pretrained_pth/optimus-vae.pth", "tokenizers"}}
_CONTEXTS = {
    "image": {"image_unet", "image_encoder", "image_feature_extractor"},
    "text": {"text_unet", "text_encoder", "tokenizer"},
}
_STABLE_DIFFUSION = {"unet", "vae", "text_encoder", "tokenizer"}


def download(repo: str, flows: Sequence[Flow] | None) -> Path:
    """Downloads what `flows` need of a repository, unless it is in the cache.

    Returns:
        The folder in the cache.

    Raises:
        CheckpointError: if there is no such repository.
        UnavailableError: if it may not be read, or the hub cannot be reached and the cache does not have it.
    """
    try:
        return Path(snapshot_download(repo, allow_patterns=needed(HfApi().list_repo_files(repo), flows)))
    except GatedRepoError as error:
        raise UnavailableError(
            f"{repo} asks for consent: give it on its page on the hub, then `hf auth login`."
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(f"There is neither a folder {repo!r} here nor such a model on the hub.") from error
    except Exception as error:  # whatever the HTTP client of the day raises
        return _from_cache(repo, error)


def needed(files: Iterable[str], flows: Sequence[Flow] | None) -> list[str]:
    """Returns those of a repository's files that `flows` need, each weight once, as `find_weights` picks it."""
    files = list(files)
    roots = {file.split("/")[0] for file in files}
    pth = next((file for name in official.FILES for file in files if PurePosixPath(file).name == name), None)
    if "diffuser" in roots:
        parts = {"diffuser", *(_modalities(flows) if flows else roots)}
    elif roots & {"image_unet", "text_unet"}:
        outputs = [flow.output for flow in flows] if flows else list(_OUTPUTS)
        contexts = [flow.context for flow in flows] if flows else list(_CONTEXTS)
        parts = {part for name in outputs for part in _OUTPUTS.get(name, ())}
        parts |= {part for name in contexts for part in _CONTEXTS.get(name, ())}
    elif pth is not None:
        return [file for file in files if file == pth or PurePosixPath(file).name in (official.KL, official.OPTIMUS)]
    else:
        parts = _STABLE_DIFFUSION
    parts = {"model_index.json", "scheduler", *parts}
    return _each_weight_once([file for file in files if file in parts or file.split("/")[0] in parts])


def _modalities(flows: Sequence[Flow]) -> set[str]:
    return {name for flow in flows for name in (flow.output, flow.context)}


def _each_weight_once(files: Sequence[str]) -> list[str]:
    kinds: dict[str, set[tuple[bool, bool, str]]] = defaultdict(set)
    ranks: dict[str, tuple[bool, bool, str]] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        match = _WEIGHTS.match(name)
        if match:
            variant = match["variant"] or _variant_of_index(name)
            ranks[file] = (bool(variant), match["kind"] == "bin", variant)
            kinds[folder].add(ranks[file])
    best = {folder: min(found) for folder, found in kinds.items()}
    weights = [file for file, rank in ranks.items() if rank == best[file.rpartition("/")[0]]]
    others = [file for file in files if file not in ranks and (_TEXTS.fullmatch(file) or file.endswith(".pth"))]
    return others + weights


def _variant_of_index(name: str) -> str:
    match = re.fullmatch(r".*\.index\.([\w-]+)\.json", name)
    return f".{match[1]}" if match else ""


def _from_cache(repo: str, error: Exception) -> Path:
    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except LocalEntryNotFoundError:
        raise UnavailableError(
            f"{repo!r} is no folder here, and the hub cannot be reached ({type(error).__name__}: {error}). Where there "
            f"is a network, run `hf download {repo} --local-dir FOLDER`, bring that folder here, and pass its path."
        ) from error
