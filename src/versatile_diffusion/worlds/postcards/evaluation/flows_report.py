"""What an evaluation found, as JSON and as tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Generic, TypeVar

from PIL import Image
from rich.table import Table

from versatile_diffusion._moved import former_names
from versatile_diffusion.evaluation.attribute_scores import CaptionScore, RewriteScore, Score, VariationScore
from versatile_diffusion.provenance import png
from versatile_diffusion.worlds.base import WorldReport
from versatile_diffusion.worlds.postcards.data import ATTRIBUTES

__getattr__ = former_names(
    __name__,
    {
        "Report": "versatile_diffusion.worlds.postcards.evaluation.flows_report:FlowsReport",
        "Settings": "versatile_diffusion.worlds.postcards.evaluation.flows_report:FlowsSettings",
    },
)

T = TypeVar("T")


@dataclass(frozen=True)
class BothSplits(Generic[T]):
    """One finding for combinations of attributes that occur in training, one for those that do not."""

    seen: T
    held_out: T


@dataclass(frozen=True)
class FlowScores:
    """Scores of the four flows.

    Attributes:
        text_to_image: attributes named by the text that the classifier reads from the image.
        image_to_text, image_variation, text_variation: see their classes.
        fid: distance of the pictures of texts from rendered pictures; see `frechet_distance`.
        fid_floor: distance of as many rendered pictures from the same ones: what a perfect model would get.
    """

    text_to_image: Score
    image_to_text: CaptionScore
    image_variation: VariationScore
    text_variation: RewriteScore
    fid: float
    fid_floor: float


@dataclass(frozen=True)
class AutoencoderScores:
    """What the stages before the diffuser leave to be had; see `stage_scores`.

    Attributes:
        image: attributes that the classifier reads from pictures given back by the KL autoencoder.
        text: share of the texts that Optimus gives back with the same meaning.
        retrieval: how often CLIP picks a picture's own text among `retrieval_choices`.
    """

    image: Score
    text: float
    retrieval: float
    retrieval_choices: int


@dataclass(frozen=True)
class FlowsSettings:
    """How an evaluation was done; the same settings give the same figures."""

    num: int
    seed: int
    steps: int
    guidance_scale: float | None
    batch_size: int
    size: int


@dataclass(frozen=True)
class FlowsReport(WorldReport):
    """All findings. Reports are equal where their figures and settings are.

    Attributes:
        flows: scores of the model.
        classifier: attributes that the classifier reads from the fresh images themselves.
        autoencoders: ceilings of the flows.
        settings: how it was done.
        sheet: some of what was made.
        seconds: how long it took.
    """

    flows: BothSplits[FlowScores]
    classifier: BothSplits[Score]
    autoencoders: BothSplits[AutoencoderScores]
    settings: FlowsSettings
    sheet: Image.Image = field(compare=False, repr=False)
    seconds: float = field(compare=False)

    @property
    def num(self) -> int:
        """Postcards of each split."""
        return self.settings.num

    def as_dict(self) -> dict[str, object]:
        """See `WorldReport.as_dict`: seen and held_out, oracle, autoencoders, settings and seconds."""
        parts = {
            "oracle": asdict(self.classifier),  # as the classifier was called when these keys were fixed
            "autoencoders": asdict(self.autoencoders),
            "settings": asdict(self.settings),
        }
        return {**asdict(self.flows), **parts, "seconds": round(self.seconds, 1)}

    def tables(self) -> list[Table]:
        """See `WorldReport.tables`: all figures but those of single attributes, and these."""
        summary = _table(f"{self.num} fresh postcards each", "seen", "held out")
        for seen, held_out in zip(_figures(self, "seen"), _figures(self, "held_out"), strict=True):
            summary.add_row(seen[0], seen[1], held_out[1], end_section=seen[2])
        columns = self._columns()
        attributes = _table("accuracy of each attribute, seen / held out", *columns)
        for name in ATTRIBUTES:
            shares = (" / ".join(_share(score.per_attribute[name]) for score in scores) for scores in columns.values())
            attributes.add_row(name, *shares)
        return [summary, attributes]

    def drawing(self) -> bytes:
        """See `WorldReport.drawing`: the sheet."""
        return png(self.sheet)

    def _columns(self) -> dict[str, tuple[Score, Score]]:
        seen, held_out = self.flows.seen, self.flows.held_out
        return {
            "text to image": (seen.text_to_image, held_out.text_to_image),
            "image to text": (seen.image_to_text, held_out.image_to_text),
            "image variation": (seen.image_variation, held_out.image_variation),
            "text variation": (seen.text_variation, held_out.text_variation),
            "classifier": (self.classifier.seen, self.classifier.held_out),
            "KL autoencoder": (self.autoencoders.seen.image, self.autoencoders.held_out.image),
        }


def _figures(report: FlowsReport, split: str) -> Iterator[tuple[str, str, bool]]:
    """Name and figure, and whether a section ends with it."""
    flows: FlowScores = getattr(report.flows, split)
    classifier: Score = getattr(report.classifier, split)
    ceilings: AutoencoderScores = getattr(report.autoencoders, split)
    captions, images, texts = flows.image_to_text, flows.image_variation, flows.text_variation
    yield "text to image: accuracy", _share(flows.text_to_image.accuracy), False
    yield "distance from rendered pictures (classifier features)", f"{flows.fid:.2f}", False
    yield "… of other rendered pictures", f"{flows.fid_floor:.2f}", True
    yield "image to text: accuracy", _share(captions.accuracy), False
    yield "share of the attributes named", _share(captions.coverage), False
    yield "accuracy, unnamed counts as wrong", _share(captions.strict_accuracy), True
    yield "image variation: accuracy", _share(images.accuracy), False
    yield "diversity (0: copies, 1: drawn anew)", f"{images.diversity:.2f}", True
    yield "text variation: accuracy", _share(texts.accuracy), False
    yield "contradicted", _share(texts.contradicted), False
    yield "invented", _share(texts.invented), False
    yield "unchanged", _share(texts.unchanged), True
    yield "classifier on these pictures", _share(classifier.accuracy), False
    yield "classifier after the KL autoencoder", _share(ceilings.image.accuracy), False
    yield "same meaning after Optimus", _share(ceilings.text), False
    yield f"CLIP picks the text of {ceilings.retrieval_choices}", _share(ceilings.retrieval), True


def _table(title: str, *columns: str) -> Table:
    table = Table("", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.3f}"
