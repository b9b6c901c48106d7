"""Tokenizers of a text modality, and small ones made from a list of words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Tokenizers:
    """The tokenizers of the parts that are loaded.

    Attributes:
        clip: of the context encoder; begins, ends and pads texts by itself.
        bert: of Optimus' encoder; begins with [CLS], ends with [SEP], pads with id 0.
        gpt2: of Optimus' decoder; knows its bos, eos and pad tokens, but adds none by itself.
    """

    clip: PreTrainedTokenizerBase | None = None
    bert: PreTrainedTokenizerBase | None = None
    gpt2: PreTrainedTokenizerBase | None = None

    def save(self, folder: Path) -> None:
        """Saves each in a folder of its own: clip_tokenizer, bert_tokenizer, gpt2_tokenizer."""
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


def vocabulary_of(texts: Iterable[str]) -> list[str]:
    """Returns the words and punctuation marks of these texts in lower case, sorted, each once."""
    return sorted({word for text in texts for word, _ in _split().pre_tokenize_str(text.lower())})


def _word_tokenizer(words: Sequence[str], wrap: str | None, **roles: str) -> PreTrainedTokenizerFast:
    ids = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=roles["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = _split()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)  # normal spacing around punctuation
    if wrap is not None:
        special = [(token, ids[token]) for token in wrap.split() if token != "$A"]
        tokenizer.post_processor = processors.TemplateProcessing(single=wrap, special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def _load(folder: Path) -> PreTrainedTokenizerBase | None:
    if not folder.is_dir():
        return None
    load: Callable[..., PreTrainedTokenizerBase] = AutoTokenizer.from_pretrained  # pyright: ignore - typed in part
    return load(folder, local_files_only=True)


def _split() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.BertPreTokenizer()


def _folder(folder: Path, name: str) -> Path:
    return Path(folder) / f"{name}_tokenizer"
