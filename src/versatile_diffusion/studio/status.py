"""What is going on, as HTML that screen readers read out."""

from __future__ import annotations

import base64
import time
from html import escape

from versatile_diffusion.modalities.registry import modality_spec
from versatile_diffusion.modalities.spec import ShownAs
from versatile_diffusion.serving.schemas import JobOut
from versatile_diffusion.studio.history import HistoryEntry


def idle(hint: str) -> str:
    """Says that nothing was made yet, and what to do."""
    return f'<p class="vd-empty">{escape(hint)}</p>'


def said(message: str) -> str:
    """Says how something ended."""
    return f'<p class="vd-said" role="status">{escape(message)}</p>'


def failed(message: str) -> str:
    """Says why something did not work, and what to do."""
    return f'<p class="vd-failed" role="alert">{escape(message)}</p>'


def going_on(job: JobOut) -> str:
    """Says where a job is, with an image of how far it got."""
    if job.queue_position:
        before = job.queue_position - 1
        words = "Waiting: it is next." if not before else f"Waiting: {before} before it."
        bar = "<progress aria-label='Waiting'></progress>"
    elif not job.steps:
        words, bar = "Reading what you gave …", "<progress aria-label='Reading'></progress>"
    else:
        words = f"Step {job.step} of {job.steps}"
        bar = f"<progress aria-label='Steps' value='{job.step}' max='{job.steps}'></progress>"
    shown = ""
    if job.preview and (job.preview_media_type or "").startswith("image/"):
        shown = f'<img src="data:image/png;base64,{job.preview}" alt="The first picture at step {job.step}">'
    return f'<div class="vd-going-on">{shown}<p role="status">{words}</p>{bar}</div>'


def details(entry: HistoryEntry) -> str:
    """Says how a result was made."""
    form = entry.form
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created))
    facts = [f"seed {entry.seed}", f"{form['steps']:g} steps", f"scheduler: {form['scheduler']}"]
    facts += [f"guidance {form['guidance_scale']:g}", str(form["model"]), when]
    words = f'<p class="vd-title">{escape(entry.title)}</p><p class="vd-said">{escape(" · ".join(facts))}</p>'
    return f"{words}{_picture(entry)}"


def _picture(entry: HistoryEntry) -> str:
    """A picture of a result that is none itself, such as the spectrogram of a sound; nothing where there is none."""
    try:
        codec = modality_spec(entry.modality).codec
        seen = codec.shown_as in (ShownAs.IMAGE, ShownAs.TEXT)
        picture = None if seen else codec.picture(codec.decode(entry.file.read_bytes()))
    except (ValueError, OSError, ImportError):  # the package that knows it is gone, or the file is
        return ""
    if picture is None:
        return ""
    content = base64.b64encode(picture).decode()
    return f'<img class="vd-picture" src="data:image/png;base64,{content}" alt="What is in it, as a picture">'
