"""Measuring what was made of samples, by us or by others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from versatile_diffusion.data.captioned_data import CaptionedData
from versatile_diffusion.evaluation.clip import model_clip, open_clip
from versatile_diffusion.evaluation.estimates import bootstrap
from versatile_diffusion.evaluation.exhibition import Exhibit, Section
from versatile_diffusion.evaluation.figures import EvaluationReport, FlowFigures
from versatile_diffusion.evaluation.generation import progress_bar
from versatile_diffusion.evaluation.image_measures import (
    ImageNetworks,
    ImageSet,
    NamedImage,
    centre_square,
    image_figures,
    look_at_images,
)
from versatile_diffusion.evaluation.inception import load_inception
from versatile_diffusion.evaluation.made import made_files, made_texts
from versatile_diffusion.evaluation.making import OutputMaker
from versatile_diffusion.evaluation.protocol import common_protocol, flow_protocol
from versatile_diffusion.evaluation.samples import EvaluationSample, read_items
from versatile_diffusion.evaluation.settings import EvaluationOptions
from versatile_diffusion.evaluation.text_measures import text_figures
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.images import read_images, to_pil
from versatile_diffusion.modalities.registry import modality_spec

_SHOWN, _SIDE = 8, 128


class Measurement:
    """Measures what was made, all flows on the same samples.

    Args:
        options: of the evaluation.
        data: where the samples come from.
        samples: that something was made of.
        makers: of each flow, whose files are read unless others made them.
        model: whose CLIP is taken if no other is given.
        device: that the networks compute on.
        shown: whether to show progress bars.
    """

    def __init__(
        self,
        options: EvaluationOptions,
        data: CaptionedData,
        samples: Sequence[EvaluationSample],
        makers: Sequence[OutputMaker],
        model: str,
        device: torch.device,
        shown: bool,
    ) -> None:
        self.options, self.data, self.samples, self.makers = options, data, samples, makers
        self.model, self.device = model, device
        self.bar = progress_bar(shown)
        self.draws = bootstrap(len(samples), options.bootstrap, options.seed)

    def report(self) -> EvaluationReport:
        """Measures all flows.

        Raises:
            ValueError: if something that was to be made is missing, or makes no numbers.
        """
        made = [(maker.flow, self._made(maker, self._place(maker))) for maker in self.makers]
        with self.bar:
            figures = [
                self._measure_images(flow, found)
                if isinstance(found[0], Path)
                else self._measure_texts(flow, list(map(str, found)))
                for flow, found in made
            ]
        return EvaluationReport(common_protocol(self.options, self.data, self.samples), figures)

    # ---- what is read ----

    def _place(self, maker: OutputMaker) -> Path:
        """Where what was made of a flow is: where we made it, in others' folder of its name, or in theirs alone."""
        if self.options.made is None:
            return maker.folder
        place = Path(self.options.made)
        if (place / str(maker.flow)).is_dir():
            return place / str(maker.flow)
        if len(self.makers) > 1:
            names = " or ".join(str(each.flow) for each in self.makers)
            raise ValueError(
                f"{place} does not say of which flow it is: say it with --flows ({names}), or put what was made into "
                "folders of these names."
            )
        return place

    def _made(self, maker: OutputMaker, place: Path) -> list[Path] | list[str]:
        """What was made of each sample: files, or the texts themselves."""
        codec = modality_spec(maker.flow.output).codec
        if self.options.made is not None:
            return made_texts(place, self.samples, codec) if codec.inline else made_files(place, self.samples, codec)
        files = [maker.file(sample) for sample in self.samples]
        if missing := [file for file in files if not file.exists()]:
            raise ValueError(
                f"{len(missing)} of {len(files)} outputs are not made yet, such as {missing[0]}: make them first, by "
                "the same command with --only make."
            )
        return [str(codec.read(file)) for file in files] if codec.inline else files

    def _real_images(self) -> Iterator[NamedImage]:
        for sample, item in zip(self.samples, read_items(self.data, self.samples, IMAGE.name), strict=True):
            assert isinstance(item, Tensor)
            yield sample.key, item

    # ---- what is computed ----

    @cached_property
    def networks(self) -> ImageNetworks:
        """What looks at images and texts."""
        options, paints = self.options, any(maker.flow.output == IMAGE.name for maker in self.makers)
        clip = model_clip(self.model, self.device) if options.clip is None else open_clip(options.clip, self.device)
        inception = load_inception(options.inception).to(self.device) if options.inception and paints else None
        return ImageNetworks(clip, inception, options.size)

    @cached_property
    def real(self) -> ImageSet:
        """The features of the samples' images."""
        return self._looked_at("images of the data set", self._real_images())

    @cached_property
    def captions(self) -> Float[Tensor, "n d"]:
        """CLIP's embeddings of the texts that something was made of."""
        return self.networks.clip.texts([str(sample.caption) for sample in self.samples])

    def _context(self, flow: Flow) -> Float[Tensor, "n d"]:
        return self.real.clip if flow.context == IMAGE.name else self.captions

    def _looked_at(self, title: str, images: Iterator[NamedImage]) -> ImageSet:
        task = self.bar.add_task(title, total=len(self.samples))
        return look_at_images(images, self.networks, lambda count: self.bar.advance(task, count))

    def _measure_images(self, flow: Flow, files: Sequence[object]) -> FlowFigures:
        paths = [file for file in files if isinstance(file, Path)]
        made = self._looked_at(str(flow), ((str(file), read_images(file)[0]) for file in paths))
        distances = (1 + (self.networks.inception is not None)) * (1 + len(self.draws))
        task = self.bar.add_task(f"distances of {flow}", total=distances)
        figures = image_figures(
            self.real,
            made,
            self._context(flow),
            self.networks,
            self.draws,
            lambda count: self.bar.advance(task, count),
        )
        exhibits = [
            Exhibit((self._small(real), self._small(read_images(file)[0])), f"{sample.caption or sample.key:.300}")
            for sample, (_, real), file in zip(self.samples[:_SHOWN], self._real_images(), paths, strict=False)
        ]
        protocol = flow_protocol(self.options, flow, self.makers, sizes=made.told_sizes)
        section = Section(f"{flow}: real, made", exhibits, _SHOWN // 2)
        return FlowFigures(str(flow), protocol, figures, section)

    def _measure_texts(self, flow: Flow, texts: Sequence[str]) -> FlowFigures:
        of_images = flow.context == IMAGE.name
        references = [sample.captions if of_images else sample.others for sample in self.samples]
        figures = text_figures(texts, references, self._context(flow), self.networks.clip, self.draws)
        images = [self._small(real) for _, real in islice(self._real_images(), _SHOWN)] if of_images else []
        exhibits = [
            Exhibit(tuple(images[number : number + 1]), f"{text}\n({sample.caption})")
            for number, (sample, text) in enumerate(zip(self.samples[:_SHOWN], texts, strict=False))
        ]
        protocol = flow_protocol(self.options, flow, self.makers)
        section = Section(f"{flow}: made (real)", exhibits, _SHOWN // 2)
        return FlowFigures(str(flow), protocol, figures, section)

    @staticmethod
    def _small(image: Float[Tensor, "3 h w"]) -> Image.Image:
        return to_pil(centre_square(image, _SIDE))
