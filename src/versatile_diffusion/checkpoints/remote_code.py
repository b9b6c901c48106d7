"""What diffusers opens a saved folder by: `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`.

diffusers loads the components that model_index.json names one by one, and gives them to the pipeline in pipeline.py.
Here one of them, the diffuser's folder, stands for the whole model, which this package then opens as ever. Of models on
the hub, diffusers downloads only folders that the index lists, so all are listed, empty where they are no component.
"""

from __future__ import annotations

from pathlib import Path

PIPELINE = "pipeline.py"
_COMPONENT = "saved_model"

_CODE = '''\
"""For `DiffusionPipeline.from_pretrained(…, trust_remote_code=True)`. Needs `pip install versatile-diffusion`."""

from versatile_diffusion.compat.remote import {name}

__all__ = ["{name}"]
'''


def write_code(folder: Path, component: str, scheduler: str, companions: tuple[str, ...]) -> dict[str, object]:
    """Writes the code into a folder that holds a model, and returns what its index says of it.

    Args:
        folder: the model's.
        component: the subfolder that stands for the whole model.
        scheduler: the class of the scheduler, which is a component like any other.
        companions: subfolders that are no part of the model.
    """
    (folder / PIPELINE).write_text(_CODE.format(name="RemotePipeline"))
    (folder / component / f"{_COMPONENT}.py").write_text(_CODE.format(name="SavedModel"))
    parts = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir())
    listed = {name: [None, None] for name in parts if name not in companions}
    known = {component: [_COMPONENT, "SavedModel"], "scheduler": ["diffusers", scheduler]}
    return {"_class_name": [Path(PIPELINE).stem, "RemotePipeline"], **listed, **known}
