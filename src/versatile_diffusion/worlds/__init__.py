"""Worlds: a bundled data set each, with the model that learnt from it, what trains it and what measures it.

A world is a folder here whose package defines `WORLD`; see `base.World`. It is found by its name, so that it needs to
be mentioned nowhere else. An installed package adds a world as an entry point of the group
"versatile_diffusion.worlds".
"""
