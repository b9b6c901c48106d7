"""The page of a Space on the hub: every flow of a model, for anybody who passes by. The studio is for those at home."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.components import Component

from versatile_diffusion.applications.versatile import VersatileDiffusionPipeline
from versatile_diffusion.engine.workers import Source, open_models
from versatile_diffusion.flows import Flow
from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import ShownAs
from versatile_diffusion.sampling.options import PresetName
from versatile_diffusion.serving.schemas import consecutive

_MOST_OUTPUTS = 4


def build_space(model: str) -> gr.TabbedInterface:
    """Opens a model and returns its page, a tab for each flow.

    Args:
        model: a bundled name, a folder or a hub id.
    """
    source = Source.parse(model)
    pipe = open_models([source])[source.name]
    contexts, outputs = pipe.diffuser.config["context_dims"], pipe.diffuser.data_layers
    flows = [Flow(context, output) for output in outputs for context in contexts]
    tabs = [_tab(pipe, flow) for flow in flows]
    names = [str(flow).replace("-", " ").capitalize() for flow in flows]
    return gr.TabbedInterface(tabs, names, title="Versatile Diffusion", analytics_enabled=False)


def _tab(pipe: VersatileDiffusionPipeline, flow: Flow) -> gr.Interface:
    return gr.Interface(
        _maker(pipe, flow),
        [
            _given(flow.context),
            gr.Slider(1, _MOST_OUTPUTS, value=1, step=1, label="Outputs"),
            gr.Number(0, precision=0, minimum=0, label="Seed"),
            gr.Radio([str(name) for name in PresetName], value=str(PresetName.FAST), label="Preset"),
        ],
        _made(flow.output),
        flagging_mode="never",
        api_name=flow.method,
    )


def _maker(pipe: VersatileDiffusionPipeline, flow: Flow) -> Callable[..., object]:
    def make(data: Any, outputs: float, seed: float, preset: str) -> object:
        if not data:
            raise gr.Error(f"Give a {flow.context} to begin with.")
        seeds = tuple(consecutive(int(seed), min(int(outputs), _MOST_OUTPUTS)))
        items = getattr(pipe, flow.method)(data, num_outputs=len(seeds), seeds=seeds, preset=preset).items
        match modality_spec(flow.output).codec.shown_as:
            case ShownAs.IMAGE:
                return items
            case ShownAs.TEXT:
                return "\n".join(items)
            case _:
                return items[0].rate, items[0].samples.T

    return make


def _given(modality: str) -> Component:
    match modality_spec(modality).codec.shown_as:
        case ShownAs.IMAGE:
            return gr.Image(type="pil", label=modality.capitalize())
        case ShownAs.TEXT:
            return gr.Textbox(label=modality.capitalize(), lines=2, max_length=1000)
        case _:
            return gr.Audio(type="filepath", label=modality.capitalize())


def _made(modality: str) -> Component:
    match modality_spec(modality).codec.shown_as:
        case ShownAs.IMAGE:
            return gr.Gallery(label=modality.capitalize(), format="png")
        case ShownAs.TEXT:
            return gr.Textbox(label=modality.capitalize(), lines=4)
        case _:
            return gr.Audio(label=modality.capitalize())
