"""Which of the files that diffusers and transformers write are the weights of a part, and which of these to take.

    STEM.safetensors                              all of them
    STEM.fp16.safetensors                         a variant
    STEM-00001-of-00002.safetensors               a shard; STEM.safetensors.index.json tells of all
    STEM.fp16-00001-of-00002.safetensors          a shard of a variant; STEM.safetensors.index.fp16.json
    STEM-00001-of-00002.fp16.safetensors          the same, as diffusers named it until 0.30

Instead of safetensors it may be bin. A folder and a repository of the hub are chosen from in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from versatile_diffusion.checkpoints.errors import CheckpointError, first_few

STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
"""What diffusers and transformers call weights; of equals, the first is taken."""

_NAME = re.compile(
    rf"(?P<stem>{'|'.join(STEMS)})(\.(?P<variant>[\w-]+?))?(?P<shard>-(?P<number>\d+)-of-(?P<total>\d+))?"
    r"(\.(?P<late>[\w-]+))?\.(?P<kind>safetensors|bin)(?P<index>\.index(\.(?P<of>[\w-]+))?\.json)?"
)

_OFFICIAL = re.compile(r".*-(?P<variant>fp16)(-.*)?\.pth")


@dataclass(frozen=True)
class FileOptions:
    """Which files of a model to take, and where they come from, as in `from_pretrained` of diffusers.

    Attributes:
        variant: take weights of this variant, such as "fp16", of each part that has it.
        use_safetensors: take safetensors alone, or (False) pickles alone; None prefers safetensors.
        revision: branch, tag or commit of a repository on the hub.
        cache_dir: where downloads are kept; the hub's own cache by default.
        token: of the hub; True is the one that was logged in with.
        local_files_only: do not ask the hub, but take what is in the cache.
        force_download: download again what is in the cache.
    """

    variant: str | None = None
    use_safetensors: bool | None = None
    revision: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    local_files_only: bool = False
    force_download: bool = False

    @property
    def kinds(self) -> str:
        """What files of weights may be, for messages."""
        match self.use_safetensors:
            case None:
                return "safetensors or .bin"
            case True:
                return "safetensors, which alone use_safetensors=True takes"
            case False:
                return ".bin, which alone use_safetensors=False takes"


ANY_FILES = FileOptions()
"""Full precision, safetensors, and the newest revision, where there is a choice."""


@dataclass(frozen=True)
class WeightName:
    """What the name of a file of weights says.

    Attributes:
        stem: one of `STEMS`.
        kind: "safetensors" or "bin".
        variant: such as "fp16"; "" if there is none.
        total: how many shards there are; 0 if the file is no shard.
        index: whether it only tells where the weights are.
    """

    stem: str
    kind: str
    variant: str
    total: int
    index: bool

    @classmethod
    def of(cls, name: str) -> WeightName | None:
        """Reads a name; None if it is not that of weights."""
        match = _NAME.fullmatch(name)
        if match is None or (match["late"] and (match["variant"] or not match["shard"])):
            return None
        variant = match["variant"] or match["late"] or match["of"] or ""
        return cls(match["stem"], match["kind"], variant, int(match["total"] or 0), bool(match["index"]))

    def rank(self, options: FileOptions) -> tuple[int, bool, str, int] | None:
        """What comes first among the weights of a part; None if the options leave this out.

        The variant that is asked for goes before full precision, that before other variants, and safetensors before
        pickles.
        """
        pickled = self.kind == "bin"
        if options.use_safetensors is not None and pickled == options.use_safetensors:
            return None
        asked = options.variant or ""
        distance = 0 if self.variant == asked else 1 if not self.variant else 2
        return distance, pickled, self.variant, STEMS.index(self.stem)


def chosen(names: Iterable[str], options: FileOptions) -> list[str]:
    """Returns those of the names of a part's files that are its weights, once: a file, or shards and their index."""
    read = {name: weights for name in names if (weights := WeightName.of(name))}
    ranks = {name: rank for name, weights in read.items() if (rank := weights.rank(options))}
    best = min(ranks.values(), default=None)
    taken = sorted(name for name, rank in ranks.items() if rank == best)
    split = [name for name in taken if read[name].total or read[name].index]
    whole = [name for name in taken if name not in split]
    return split if any(read[name].index for name in split) or not whole else whole


def find_weights(folder: Path, options: FileOptions, stems: Sequence[str] = STEMS) -> list[Path]:
    """Returns the weights in a folder: a file, the index of several, or all shards where there is no index.

    Raises:
        CheckpointError: if shards are missing.
    """
    found = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    names = chosen([name for name in found if (weights := WeightName.of(name)) and weights.stem in stems], options)
    read = {name: weights for name in names if (weights := WeightName.of(name))}
    index = [name for name in names if read[name].index]
    shards = [name for name in names if read[name].total]
    total = max((read[name].total for name in shards), default=0)
    if shards and not index and len(shards) != total:
        raise CheckpointError(
            f"{folder} holds {len(shards)} of {total} shards ({first_few(shards)}). Download the others too."
        )
    return [folder / name for name in index[:1] or names]


def variants(folder: Path) -> set[str]:
    """Returns the variants that weights in a folder, or in a part of the model there, come in."""
    names = [path.name for pattern in ("*", "*/*") for path in folder.glob(pattern)]
    read = [name.variant for name in map(WeightName.of, names) if name]
    official = [match["variant"] for match in map(_OFFICIAL.fullmatch, names) if match]
    return {*read, *official} - {""}
