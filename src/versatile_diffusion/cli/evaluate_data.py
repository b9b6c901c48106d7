# pyright: strict
"""`vd evaluate images` and `vd evaluate texts`: a system measured on a data set."""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from versatile_diffusion import __version__
from versatile_diffusion.cli.console import messages, note, results, say
from versatile_diffusion.cli.decoding import decoding_words, read_decoding
from versatile_diffusion.cli.files import require_writable, require_writable_folder, slug
from versatile_diffusion.cli.flags import Taken
from versatile_diffusion.cli.opening import open_pipeline, show_progress
from versatile_diffusion.cli.options import Loras, ModelOptions, Overwrite, set_options
from versatile_diffusion.evaluation.settings import EvaluationOptions, EvaluationPart
from versatile_diffusion.extras import require
from versatile_diffusion.files import write_whole
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.spec import DecodingOptions
from versatile_diffusion.modalities.text_spec import TEXT, TextDecoding
from versatile_diffusion.sampling.options import Sampling

if TYPE_CHECKING:
    from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
    from versatile_diffusion.evaluation.evaluation import MakingSettings
    from versatile_diffusion.evaluation.figures import EvaluationReport
    from versatile_diffusion.processes import ProcessShare

_FOLDER = Path("evaluations")

Measured = Annotated[
    str | None,
    typer.Argument(metavar="[MODEL]", help="What is measured, as --model takes it; the bundled one if left out."),
]


@dataclass(frozen=True)
class ReportOptions:
    """Where what is made and found goes."""

    flows: Annotated[
        list[str] | None, typer.Option("--flows", metavar="FLOW…", help="What is measured; both if left out.")
    ] = None
    lora: Loras = None
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            file_okay=False,
            help="A folder for samples and outputs, where a run goes on; evaluations/… if left out.",
        ),
    ] = None
    as_json: Annotated[Path | None, typer.Option("--json", dir_okay=False, help="A file for all figures as JSON.")] = (
        None
    )
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", dir_okay=False, help="A .png file for the first samples."),
    ] = None
    card: Annotated[
        Path | None,
        typer.Option("--card", help="A model card that the figures are entered into, or the folder that it lies in."),
    ] = None
    overwrite: Overwrite = False


def images(
    options: ModelOptions,
    evaluation: EvaluationOptions,
    reporting: ReportOptions,
    sampling: Annotated[Sampling, Taken(without=("strength",))],
    measured: Measured = None,
) -> None:
    """Measure text-to-image and image-variation on captioned pictures: FID, CLIP-FID, CMMD and CLIP score.

    \b
    vd evaluate images --data my-pictures --num 200 --steps 20 --json out.json --sheet sheet.png
    vd evaluate images shi-labs/versatile-diffusion --data coco-val-2014 --num 30000 --inception download
    vd evaluate images --data coco-val-2014 --num 30000 --made their-pictures --flows text-to-image
    torchrun --nproc-per-node 8 -m versatile_diffusion.cli evaluate images MODEL --data coco-val-2014

    The same command goes on where it stopped.
    """
    job = _EvaluationJob(IMAGE.name, _with_model(options, measured), evaluation, reporting, sampling, DecodingOptions())
    job.run()


def texts(
    options: ModelOptions,
    evaluation: Annotated[EvaluationOptions, Taken(without=("size", "inception"))],
    reporting: ReportOptions,
    sampling: Annotated[Sampling, Taken(without=("strength", "height", "width"))],
    decoding: TextDecoding,
    measured: Measured = None,
) -> None:
    """Measure image-to-text and text-variation on captioned pictures: CIDEr-D, BLEU-1 to 4, ROUGE-L and CLIP score.

    \b
    vd evaluate texts --data my-pictures --num 200 --steps 20 --json out.json --sheet sheet.png
    vd evaluate texts shi-labs/versatile-diffusion --data coco-val-2014 --num 5000
    vd evaluate texts --data coco-val-2014 --num 5000 --made their-captions.jsonl --flows image-to-text

    The same command goes on where it stopped.
    """
    _EvaluationJob(TEXT.name, _with_model(options, measured), evaluation, reporting, sampling, decoding).run()


@dataclass(frozen=True)
class _EvaluationJob:
    """What the user asks for.

    Attributes:
        to: modality that is measured.
        model: what makes it.
        options: what it is measured on.
        reporting: where findings go.
        sampling, decoding: how it is made.
    """

    to: str
    model: ModelOptions
    options: EvaluationOptions
    reporting: ReportOptions
    sampling: Sampling
    decoding: DecodingOptions

    def run(self) -> None:
        """Does all of it, or the part that is asked for."""
        require("datasets", "Reading data sets", "train")
        require("torchmetrics", "Evaluation", "evaluate")
        part, files = self.options.only, [file for file in (self.reporting.as_json, self.reporting.sheet) if file]
        flows = self._flows()
        if self.options.made is not None and part is EvaluationPart.MAKE:
            raise ValueError("--made measures what others made, and --only make makes: leave one of them out.")
        from versatile_diffusion.devices import choose_device
        from versatile_diffusion.evaluation.evaluation import SAMPLES, DataSetEvaluation
        from versatile_diffusion.processes import ProcessShare, processes

        state, folder = processes(), self._folder()
        card = self._card()
        with state.main_process_first():
            require_writable(files, self.reporting.overwrite)
            require_writable_folder(folder)
        evaluation = DataSetEvaluation(
            self.options,
            flows,
            folder,
            self._making(),
            asked=self.reporting.flows is not None,
            device=choose_device(self._own_device(ProcessShare.of(state))),
            shown=messages.is_terminal,
        )
        with _few_warnings():
            count = len(evaluation.samples)
            if left := [str(flow) for flow in flows if flow not in evaluation.flows]:
                note(f"{self.options.data} has no captions, so that {' and '.join(left)} cannot be measured on it.")
            if part is not EvaluationPart.LIST and part is not EvaluationPart.MEASURE and self.options.made is None:
                evaluation.make(self._open)
            report = evaluation.measure() if state.is_main_process and part in (None, EvaluationPart.MEASURE) else None
        if report is not None:
            self._tell(report, card)
        elif state.is_main_process:
            what = folder / SAMPLES if part is EvaluationPart.LIST else folder
            say(f"{count} samples {'chosen' if part is EvaluationPart.LIST else 'made'}: {what}.")
        state.destroy_process_group()  # pyright: ignore[reportUnknownMemberType] - untyped in accelerate

    def _flows(self) -> list[Flow]:
        """The flows to measure: those that the user names, or from images and from texts."""
        contexts = sorted((IMAGE.name, TEXT.name), key=lambda context: context == self.to)  # variations last
        usual = [Flow(context, self.to) for context in contexts]
        flows = list(dict.fromkeys(map(Flow.parse, self.reporting.flows or map(str, usual))))
        if wrong := [str(flow) for flow in flows if flow not in usual]:
            raise ValueError(f"{', '.join(wrong)} is not measured here, only {' and '.join(map(str, usual))}.")
        return flows

    def _folder(self) -> Path:
        """Where samples and outputs go."""
        who = self.model.model if self.options.made is None else self.options.made
        names = (Path(self.options.data).stem, Path(who).name, self.to)
        return self.reporting.output or _FOLDER / "-".join(map(slug, names))

    def _making(self) -> MakingSettings:
        """How outputs are made, and all that they depend on."""
        from versatile_diffusion.data.folder import listing
        from versatile_diffusion.devices import choose_device, choose_dtype
        from versatile_diffusion.evaluation.evaluation import MakingSettings
        from versatile_diffusion.provenance.words import sampling_words

        decoding, own = read_decoding(self.to, self.decoding), asdict(self.model)
        kept = Path(self.model.model)
        words = {
            **{key: value for key, value in own.items() if key != "device"},
            "dtype": str(choose_dtype(self.model.dtype, choose_device(self.model.device))).removeprefix("torch."),
            "model files": listing(self.model.model) if kept.exists() else None,
            "lora": " | ".join(self.reporting.lora or []) or None,
            **sampling_words(self.sampling),
            **decoding_words(self.decoding),
            "batch_size": self.options.batch_size,
            "noise seed": self.options.seed,
            "made by": f"versatile-diffusion {__version__}",
        }
        return MakingSettings(self.model.model, words, {**set_options(self.sampling), **decoding})

    def _own_device(self, share: ProcessShare) -> str:
        """The device of this process: one of its own if there are several."""
        return share.device if share.processes > 1 and self.model.device in ("auto", "cuda") else self.model.device

    def _open(self, flows: Sequence[Flow]) -> VersatileDiffusionPipeline:
        from versatile_diffusion.processes import ProcessShare, processes

        own = replace(self.model, device=self._own_device(ProcessShare.of(processes())))
        pipe = open_pipeline(own, [str(flow) for flow in flows], loras=self.reporting.lora)
        show_progress(pipe, None)
        return pipe

    def _card(self) -> Path | None:
        """The model card that the user means."""
        if self.reporting.card is None:
            return None
        from versatile_diffusion.training.report.measured_card import find_card

        return find_card(self.reporting.card)

    def _tell(self, report: EvaluationReport, card: Path | None) -> None:
        for table in report.tables():
            results.print(table)
        if self.reporting.as_json:
            write_whole(self.reporting.as_json, (json.dumps(report.as_dict(), indent=2) + "\n").encode())
        if self.reporting.sheet:
            write_whole(self.reporting.sheet, report.drawing())
        if card is not None:
            from versatile_diffusion.training.report.measured_card import enter_figures

            enter_figures(card, report, self.options.data)
            say(f"Entered into {card}.")
        if self.to == IMAGE.name and self.options.inception is None:
            note(
                "The FID was left out, since it needs the weights of its Inception: give their file with --inception, "
                "or write --inception download. A CLIP-FID compares only with CLIP-FIDs of the same CLIP."
            )


def _with_model(options: ModelOptions, model: str | None) -> ModelOptions:
    return options if model is None else replace(options, model=model)


@contextmanager
def _few_warnings() -> Generator[None]:
    """Shows the first thing that is warned of, and counts the others: each of thousands of captions may be cut."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    told = list(dict.fromkeys(str(each.message) for each in caught if each.category is UserWarning))
    if told:
        note(told[0] + (f" (and {len(told) - 1} more such notes)" if len(told) > 1 else ""))
