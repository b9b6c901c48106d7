# pyright: strict
"""What is made with a pipeline beyond its flows: editing, brain decoding, lists of prompts."""
