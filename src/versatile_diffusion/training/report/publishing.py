"""What was trained goes to the hub: `vd train DATA --push-to-hub OWNER/NAME`."""

from __future__ import annotations

from pathlib import Path

import httpx
from huggingface_hub import HfApi, get_token, is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils import validate_repo_id


def require_hub(name: str) -> None:
    """Finds out, before anything is trained, whether the hub would take a model of that name.

    Raises:
        ValueError: if it is no name of a model, or nobody is logged in there; the message says what to do.
        OSError: if the hub cannot be reached.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"--push-to-hub takes a name such as owner/name, got {name!r:.120}: {error!s:.300}") from error
    if is_offline_mode():
        raise OSError("--push-to-hub needs the hub, but HF_HUB_OFFLINE is set: unset it, or leave out --push-to-hub.")
    if get_token() is None:
        raise ValueError("--push-to-hub needs a login: run `hf auth login`, or set HF_TOKEN.")
    try:
        HfApi().whoami()  # pyright: ignore[reportUnknownMemberType] - huggingface_hub types it in part
    except HfHubHTTPError as error:
        raise ValueError(f"The hub does not know this login: run `hf auth login`. It says: {error!s:.300}") from error
    except (OSError, httpx.HTTPError) as error:
        raise OSError(
            f"The hub cannot be reached ({error!s:.300}): leave out --push-to-hub, and give it later."
        ) from error


def publish(folder: Path, name: str) -> str:
    """Uploads what was trained, with its card, and returns where it is.

    Args:
        folder: of a LoRA or a model.
        name: of the model on the hub, which is made if it is not there.

    Raises:
        OSError: if that fails; what was trained is still here.
    """
    api = HfApi()
    try:
        where = str(api.create_repo(name, exist_ok=True))
        api.upload_folder(repo_id=name, folder_path=folder, commit_message="Trained with versatile-diffusion")
    except (OSError, httpx.HTTPError) as error:
        raise OSError(
            f"It could not be uploaded as {name} ({error!s:.300}). It is in {folder}: give the same command again, or "
            f"`hf upload {name} {folder}`."
        ) from error
    return where
