"""Training: one loop for every stage, the stages of a model in the paper's order, and what a run leaves behind.

Nothing here knows a world: a world brings its data, its recipe and what measures it.
"""
