"""Tokenizers of the official models, which lie beside a checkpoint or on the hub."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from transformers import AutoTokenizer, BertTokenizer, CLIPTokenizer, GPT2Tokenizer, PreTrainedTokenizerBase

from versatile_diffusion.checkpoints.components import Wanted
from versatile_diffusion.checkpoints.errors import UnavailableError
from versatile_diffusion.checkpoints.weight_files import ANY_FILES, FileOptions
from versatile_diffusion.modalities.vocabulary import Tokenizers

CLIP, BERT, GPT2 = "openai/clip-vit-large-patch14", "google-bert/bert-base-cased", "openai-community/gpt2"
_OPTIMUS_TOKENS = {"pad_token": "<PAD>", "bos_token": "<BOS>", "eos_token": "<EOS>"}  # in the order of their ids


def read_tokenizers(folder: Path, wanted: Wanted, options: FileOptions = ANY_FILES) -> Tokenizers:
    """Returns the tokenizers that texts need: CLIP's as a context, BERT's and GPT-2's as an output.

    Each is looked for in `tokenizer/` (CLIP's only), in `tokenizers/NAME/` and in `NAME/`, with the names that they
    have on the hub, and then on the hub itself, as far as the options allow it.

    Raises:
        UnavailableError: if one is nowhere to be found.
    """
    clip = bert = gpt2 = None
    if "text" in wanted.contexts:
        clip = _read(folder, CLIP, CLIPTokenizer, options, extra=("tokenizer",))
    if "text" in wanted.outputs:
        bert = _read(folder, BERT, BertTokenizer, options)
        gpt2 = _read(folder, GPT2, GPT2Tokenizer, options)
        known = gpt2.get_vocab()
        gpt2.add_special_tokens({role: token for role, token in _OPTIMUS_TOKENS.items() if token not in known})
    return Tokenizers(clip, bert, gpt2)


def _read(
    folder: Path, name: str, cls: type[PreTrainedTokenizerBase], options: FileOptions, extra: Iterable[str] = ()
) -> PreTrainedTokenizerBase:
    short = name.rpartition("/")[2]
    places = [folder / place for place in (*extra, f"tokenizers/{short}", short)]
    found = next((place for place in places if place.is_dir() and any(place.iterdir())), None)
    if found is not None:
        try:
            return _opened(AutoTokenizer, found, local_files_only=True)
        except (OSError, ValueError, KeyError):  # files of old tokenizers do not name their class
            return _opened(cls, found, local_files_only=True)
    try:
        return _opened(
            AutoTokenizer,
            name,
            local_files_only=options.local_files_only,
            cache_dir=options.cache_dir,
            token=options.token,
        )
    except Exception as error:
        raise UnavailableError(
            f"The tokenizer {short} is not in {folder}, and the hub cannot be reached. Where there is a network, run "
            f"`hf download {name} --include '*token*' '*vocab*' '*merges*' config.json --local-dir "
            f"{places[-2]}`, or copy that folder from there to here."
        ) from error


def _opened(
    cls: type[AutoTokenizer | PreTrainedTokenizerBase], source: Path | str, **options: str | Path | bool | None
) -> PreTrainedTokenizerBase:
    opened: object = cls.from_pretrained(source, **options)  # pyright: ignore - typed in part in transformers
    assert isinstance(opened, PreTrainedTokenizerBase)
    return opened
