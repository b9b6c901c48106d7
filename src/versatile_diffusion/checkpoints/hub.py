"""Models on the Hugging Face hub: only the files that some flows need, in the hub's own cache."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, snapshot_download  # pyright: ignore[reportUnknownVariableType] - typed in part
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from versatile_diffusion.checkpoints import official
from versatile_diffusion.checkpoints.errors import CheckpointError, UnavailableError
from versatile_diffusion.checkpoints.folder import FEW_STEPS
from versatile_diffusion.checkpoints.lora_folder import WEIGHTS
from versatile_diffusion.checkpoints.weight_files import FileOptions, WeightName, chosen
from versatile_diffusion.flows import Flow

_TEXTS = re.compile(r".*\.(json|txt|model)")

# The folders and files of Versatile Diffusion in diffusers' layout that an output or a context modality needs.
_OUTPUTS = {"image": {"image_unet", "vae"}, "text": {"text_unet", "pretrained_pth/optimus-vae.pth", "tokenizers"}}
_CONTEXTS = {
    "image": {"image_unet", "image_encoder", "image_feature_extractor"},
    "text": {"text_unet", "text_encoder", "tokenizer"},
}
_STABLE_DIFFUSION = {"unet", "vae", "text_encoder", "tokenizer"}
_AUDIOLDM = {"vae", "vocoder", "text_encoder", "tokenizer", "feature_extractor"}


def download(repo: str, flows: Sequence[Flow] | None, options: FileOptions | None = None) -> Path:
    """Downloads what `flows` need of a repository, unless it is in the cache.

    Returns:
        The folder in the cache.

    Raises:
        CheckpointError: if there is no such repository or revision.
        UnavailableError: if it may not be read, or the hub cannot be reached and the cache does not have it.
    """
    options = options or FileOptions()
    if options.local_files_only:
        return _from_cache(repo, options, None)
    try:
        files = HfApi(token=options.token).list_repo_files(repo, revision=options.revision)
        return Path(
            snapshot_download(
                repo,
                revision=options.revision,
                cache_dir=options.cache_dir,
                token=options.token,
                force_download=options.force_download,
                allow_patterns=needed(files, flows, options),
            )
        )
    except GatedRepoError as error:
        raise UnavailableError(
            f"{repo} asks for consent: give it on its page on the hub, then `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{repo} has no revision {options.revision!r}: look on its page on the hub.") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(f"There is neither a folder {repo!r} here nor such a model on the hub.") from error
    except Exception as error:  # whatever the HTTP client of the day raises
        return _from_cache(repo, options, error)


def needed(files: Iterable[str], flows: Sequence[Flow] | None, options: FileOptions | None = None) -> list[str]:
    """Returns those of a repository's files that `flows` need, each weight once, as `find_weights` picks it."""
    files, options = list(files), options or FileOptions()
    roots = {file.split("/")[0] for file in files}
    pth = official.first_of((PurePosixPath(file).name for file in files), options.variant)
    if "diffuser" in roots:
        parts = {"diffuser", FEW_STEPS, *(_modalities(flows) if flows else roots)}
    elif roots & {"image_unet", "text_unet"}:
        outputs = [flow.output for flow in flows] if flows else list(_OUTPUTS)
        contexts = [flow.context for flow in flows] if flows else list(_CONTEXTS)
        parts = {part for name in outputs for part in _OUTPUTS.get(name, ())}
        parts |= {part for name in contexts for part in _CONTEXTS.get(name, ())}
    elif pth is not None:
        return [file for file in files if PurePosixPath(file).name in (pth, official.KL, official.OPTIMUS)]
    elif "config.json" in roots and "model_index.json" not in roots:  # one network of transformers
        parts = {file for file in files if "/" not in file}
    else:
        parts = _AUDIOLDM if "vocoder" in roots else _STABLE_DIFFUSION
    parts = {"model_index.json", "scheduler", *parts}
    return _each_weight_once([file for file in files if file in parts or file.split("/")[0] in parts], options)


def _modalities(flows: Sequence[Flow]) -> set[str]:
    return {name for flow in flows for name in (flow.output, flow.context)}


def _each_weight_once(files: Sequence[str], options: FileOptions) -> list[str]:
    weights: dict[str, list[str]] = defaultdict(list)
    for file in files:
        folder, _, name = file.rpartition("/")
        if WeightName.of(name):
            weights[folder].append(name)
    taken = [f"{folder}/{name}" for folder, names in weights.items() for name in chosen(names, options)]
    others = [file for file in files if _TEXTS.fullmatch(file) or file.endswith((".pth", f"{FEW_STEPS}/{WEIGHTS}"))]
    return [file for file in others if not WeightName.of(file.rpartition("/")[2])] + taken


def _from_cache(repo: str, options: FileOptions, error: Exception | None) -> Path:
    try:
        return Path(
            snapshot_download(repo, revision=options.revision, cache_dir=options.cache_dir, local_files_only=True)
        )
    except LocalEntryNotFoundError:
        reason = f"the hub cannot be reached ({type(error).__name__}: {error})" if error else "the cache lacks it"
        raise UnavailableError(
            f"{repo!r} is no folder here, and {reason}. Where there is a network, run "
            f"`hf download {repo} --local-dir FOLDER`, bring that folder here, and pass its path."
        ) from error
    except HFValidationError as invalid:
        raise CheckpointError(f"There is neither a folder {repo!r} here nor such a model on the hub.") from invalid
