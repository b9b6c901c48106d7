"""Tokenizers of a text modality, and small ones made from a list of words."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

_ONE_AT_A_TIME = threading.Lock()
# a process that is forked while another thread holds it would wait for it forever
os.register_at_fork(
    before=_ONE_AT_A_TIME.acquire, after_in_parent=_ONE_AT_A_TIME.release, after_in_child=_ONE_AT_A_TIME.release
)


def tokenized(tokenizer: PreTrainedTokenizerBase, texts: str | list[str], **options: Any) -> Any:
    """Calls a tokenizer, which only one thread at a time may do.

    How a text is cut and padded is state of the tokenizer, which transformers sets at each call: a thread whose call
    says something else would change what another one, on its way, gets.

    Args:
        tokenizer: is called.
        texts: what it is called with.
        options: of the call, such as padding and truncation.

    Returns:
        The BatchEncoding that the tokenizer gives, whose fields transformers leaves untyped.
    """
    with _ONE_AT_A_TIME:
        return tokenizer(texts, **options)


def parts_words(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Tells whether a tokenizer leaves spaces before punctuation; byte-pair encodings keep those that there were."""
    backend: object = getattr(tokenizer, "backend_tokenizer", None)
    return not (isinstance(backend, Tokenizer) and isinstance(backend.model, models.BPE))


@dataclass(frozen=True)
class Tokenizers:
    """The tokenizers of the parts that are loaded.

    Attributes:
        clip: of CLIP as the context encoder; begins, ends and pads texts by itself.
        bert: of Optimus' encoder; begins with [CLS], ends with [SEP], pads with id 0.
        gpt2: of Optimus' decoder; knows its bos, eos and pad tokens, but adds none by itself.
        t5: of T5 as the context encoder; ends and pads texts by itself.
        clap: of CLAP as the context encoder, likewise.
    """

    clip: PreTrainedTokenizerBase | None = None
    bert: PreTrainedTokenizerBase | None = None
    gpt2: PreTrainedTokenizerBase | None = None
    t5: PreTrainedTokenizerBase | None = None
    clap: PreTrainedTokenizerBase | None = None

    def named(self, name: str) -> PreTrainedTokenizerBase | None:
        """Returns the tokenizer of that name, if it is there."""
        found: PreTrainedTokenizerBase | None = getattr(self, name)
        return found

    def save(self, folder: Path) -> None:
        """Saves each in a folder of its own: clip_tokenizer, bert_tokenizer, gpt2_tokenizer, …"""
        for field in fields(self):
            tokenizer = getattr(self, field.name)
            if tokenizer is not None:
                tokenizer.save_pretrained(_folder(folder, field.name))

    @classmethod
    def load(cls, folder: Path) -> Tokenizers:
        """Loads those that `save` saved, without a network."""
        return cls(*(_load(_folder(folder, field.name)) for field in fields(cls)))


def word_tokenizers(texts: Iterable[str]) -> Tokenizers:
    """Returns tokenizers whose vocabularies are the words and punctuation marks of these texts, in lower case.

    They play the same roles, with the same special tokens, as the official ones.
    """
    words = vocabulary_of(texts)
    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    return Tokenizers(
        # CLIP looks for the end as the highest id
        clip=_word_tokenizer(
            ["<|unknown|>", *words, "<|startoftext|>", "<|endoftext|>"],
            wrap="<|startoftext|> $A <|endoftext|>",
            unk_token="<|unknown|>",
            bos_token="<|startoftext|>",
            eos_token="<|endoftext|>",
            pad_token="<|endoftext|>",
        ),
        bert=_word_tokenizer(
            [*bert, *words],
            wrap="[CLS] $A [SEP]",
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
        ),
        gpt2=_word_tokenizer(
            [*words, "<UNK>", "<PAD>", "<BOS>", "<EOS>"],
            wrap=None,
            unk_token="<UNK>",
            pad_token="<PAD>",
            bos_token="<BOS>",
            eos_token="<EOS>",
        ),
    )


_ALIKE = 0.75
"""How much of two words must be the same for the one to be meant by the other."""
PIECES = 8000
"""Word pieces of a vocabulary that is trained, at most."""


def trained_tokenizers(texts: Sequence[str], pieces: int = PIECES) -> Tokenizers:
    """Returns tokenizers that are trained on these texts: they know every word, if need be by its letters.

    They play the same roles, with the same special tokens, as the official ones, and are of the same kinds: CLIP's and
    GPT-2's are byte pair encodings, BERT's has word pieces.

    Args:
        texts: to learn from.
        pieces: of each vocabulary, at most.
    """
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    clip = _byte_pairs(
        texts, pieces, [ends["bos_token"], ends["eos_token"]]
    )  # CLIP looks for the end as the highest id
    clip.post_processor = _wrapped(clip, "<|startoftext|> $A <|endoftext|>")
    roles = {"pad_token": "<PAD>", "bos_token": "<BOS>", "eos_token": "<EOS>"}
    gpt2 = _byte_pairs(texts, pieces, list(roles.values()))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    bert = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    bert.normalizer, bert.pre_tokenizer = normalizers.Lowercase(), _split()
    bert.decoder = decoders.WordPiece()
    bert.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=pieces, special_tokens=list(special.values()), show_progress=False)
    )
    bert.post_processor = _wrapped(bert, "[CLS] $A [SEP]")
    return Tokenizers(
        clip=PreTrainedTokenizerFast(tokenizer_object=clip, **ends),
        bert=PreTrainedTokenizerFast(tokenizer_object=bert, **special),
        gpt2=PreTrainedTokenizerFast(tokenizer_object=gpt2, **roles),
    )


def present(tokenizer: PreTrainedTokenizerBase | None, name: str = "") -> PreTrainedTokenizerBase:
    """Returns a tokenizer, if it is there.

    Raises:
        RuntimeError: if it is not.
    """
    if tokenizer is None:
        raise RuntimeError(f"The {name} tokenizer is not loaded: set `tokenizers` or call `load_assets`.")
    return tokenizer


def vocabulary_of(texts: Iterable[str]) -> list[str]:
    """Returns the words and punctuation marks of these texts in lower case, sorted, each once."""
    return sorted({word for text in texts for word, _ in _split().pre_tokenize_str(text.lower())})


def nearest_words(vocabulary: Iterable[str], words: Iterable[str]) -> list[str]:
    """Returns, for each word that a vocabulary lacks, the one that is written most like it, if any is much like it."""
    known = sorted(word for word in vocabulary if word.isalpha())
    found = (get_close_matches(word.lower(), known, n=1, cutoff=_ALIKE) for word in words)
    return list(dict.fromkeys(word for each in found for word in each))


def _word_tokenizer(words: Sequence[str], wrap: str | None, **roles: str) -> PreTrainedTokenizerFast:
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=roles["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = _split()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # normal spacing around punctuation
    if wrap is not None:
        tokenizer.post_processor = _wrapped(tokenizer, wrap)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def _byte_pairs(texts: Sequence[str], pieces: int, special: list[str]) -> Tokenizer:
    """Byte pairs of texts in lower case, and after them the special tokens, which have the highest ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=pieces, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(special)  # pyright: ignore[reportUnknownMemberType] - tokenizers leaves a parameter untyped
    return tokenizer


def _wrapped(tokenizer: Tokenizer, wrap: str) -> processors.TemplateProcessing:
    special = [(token, tokenizer.token_to_id(token)) for token in wrap.split() if token != "$A"]
    return processors.TemplateProcessing(single=wrap, special_tokens=special)


def _load(folder: Path) -> PreTrainedTokenizerBase | None:
    if not folder.is_dir():
        return None
    load: Callable[..., PreTrainedTokenizerBase] = AutoTokenizer.from_pretrained  # pyright: ignore - typed in part
    return load(folder, local_files_only=True)


def _split() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.BertPreTokenizer()


def _folder(folder: Path, name: str) -> Path:
    return Path(folder) / f"{name}_tokenizer"
