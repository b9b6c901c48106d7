"""What tests of the sounds of postcards need: they are skipped without it, unless VD_REQUIRE_ENGINES=1 demands it."""

import os
from importlib.util import find_spec

import pytest

from versatile_diffusion.worlds.postcards.sound.render import ENGINES


def needed(*libraries: str) -> pytest.MarkDecorator:
    missing = [library for library in libraries if find_spec(library) is None]
    skipped = bool(missing) and os.environ.get("VD_REQUIRE_ENGINES") != "1"
    return pytest.mark.skipif(skipped, reason=f"not installed: {', '.join(missing)}; see docs/sound.md")


needs_engines = needed(*ENGINES)
needs_ear = needed(*ENGINES, "pocketsphinx")
