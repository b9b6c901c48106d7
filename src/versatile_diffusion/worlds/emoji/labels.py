"""What a classifier of emoji tells apart: the hands and treatments, and as many things as there are."""

from __future__ import annotations

from versatile_diffusion.worlds.emoji.data.hands import HANDS
from versatile_diffusion.worlds.emoji.data.treatments import TREATMENTS

HAND_NAMES: tuple[str, ...] = tuple(hand.name for hand in HANDS)
TREATMENT_NAMES: tuple[str, ...] = tuple(TREATMENTS)
LABELS = ("thing", "hand", "treatment")
"""What is read of an image, in this order."""
