"""How well models of emoji, and their parts, do."""
