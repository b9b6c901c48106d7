"""Modalities by their names: those of this package, those that were registered, and those of installed packages.

A package brings a modality by an entry point of the group `versatile_diffusion.modalities`, in its pyproject.toml:

    [project.entry-points."versatile_diffusion.modalities"]
    shape = "its_package.shape_spec:SHAPE"
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from versatile_diffusion.modalities.image_spec import IMAGE
from versatile_diffusion.modalities.sound_spec import SOUND
from versatile_diffusion.modalities.spec import ModalitySpec
from versatile_diffusion.modalities.text_spec import TEXT

GROUP = "versatile_diffusion.modalities"
_registered: dict[str, ModalitySpec] = {spec.name: spec for spec in (IMAGE, TEXT, SOUND)}


def modality_names() -> tuple[str, ...]:
    """Returns the names of all modalities that are known here."""
    return tuple(dict.fromkeys((*_registered, *sorted(_installed()))))


def modality_spec(name: str) -> ModalitySpec:
    """Returns the modality of a name.

    Raises:
        ValueError: if there is none, or the package that brings it cannot be imported.
    """
    if name in _registered:
        return _registered[name]
    point = _installed().get(name)
    if point is None:
        known = ", ".join(modality_names())
        raise ValueError(f"There is no modality {name!r:.100}, only {known}. Install the package that brings it.")
    spec = _loaded(point)
    register(spec)
    return spec


def register(spec: ModalitySpec) -> None:
    """Makes a modality known in this process.

    Raises:
        ValueError: if another one has its name.
    """
    if _registered.setdefault(spec.name, spec) is not spec:
        raise ValueError(f"There is another modality {spec.name!r}, {_registered[spec.name].implementation}.")


def unregister(spec: ModalitySpec) -> None:
    """Forgets a modality that was registered."""
    if _registered.get(spec.name) is spec:
        del _registered[spec.name]


@cache
def _installed() -> dict[str, EntryPoint]:
    """What installed packages bring; nothing of it is imported yet."""
    return {point.name: point for point in entry_points(group=GROUP)}


def _loaded(point: EntryPoint) -> ModalitySpec:
    package = point.dist.name if point.dist is not None else point.module
    try:
        spec: object = point.load()
    except Exception as error:  # whatever an import may raise
        raise ValueError(
            f"The modality {point.name!r} of the package {package} cannot be imported ({type(error).__name__}: "
            f"{error}). Repair that package, or uninstall it."
        ) from error
    if not isinstance(spec, ModalitySpec) or spec.name != point.name:
        raise ValueError(f"The package {package} says that {point.value} is the modality {point.name!r}: it is not.")
    return spec
