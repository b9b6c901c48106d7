# pyright: strict
"""What the hub runs a model by: the files of a Space, and those of an Inference Endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from versatile_diffusion.files import write_whole

_APP = '''\
"""A Space of the hub; on a machine of your own: python app.py"""

import os

from versatile_diffusion.studio.space import build_space

demo = build_space(os.environ.get("MODEL", {model!r}))

if __name__ == "__main__":
    demo.launch()
'''

_README = Path(__file__).with_name("space_readme.md")

_HANDLER = '''\
"""What an Inference Endpoint of the hub calls; see docs/hub.md."""

from versatile_diffusion.serving.endpoint import EndpointHandler

__all__ = ["EndpointHandler"]
'''


def write_space(folder: Path, model: str, title: str, gradio: str) -> None:
    """Writes a Space.

    Args:
        folder: of the Space; is made.
        model: that it shows: a bundled name or a hub id.
        title: of its page.
        gradio: the version that it runs on.
    """
    models = f"models:\n  - {model}\n" if "/" in model else ""
    _write(
        folder,
        {
            "README.md": _README.read_text().format(title=title, gradio=gradio, model=model, models=models),
            "app.py": _APP.format(model=model),
            "requirements.txt": "versatile-diffusion[app]\n",
        },
    )


def write_endpoint(folder: Path) -> None:
    """Writes what an endpoint needs beside a saved model."""
    _write(folder, {"handler.py": _HANDLER, "requirements.txt": "versatile-diffusion[serve]\n"})


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        write_whole(folder / name, text.encode())
